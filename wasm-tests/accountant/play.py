"""Random requests, and a client that ends them in every way."""

import asyncio
import json
import time
from dataclasses import dataclass

TEXT = ("chat/completions", "completions", "responses", "messages")
OTHERS = ("embeddings", "moderations", "images/generations", "audio/speech", "audio/transcriptions", "images/edits")
# How a request is to end, and how often of a hundred.
ENDINGS = {"whole": 62, "leaves before the answer": 9, "leaves in the stream": 11, "time-out": 4, "error": 8, "nonsense": 6}


@dataclass
class Plan:
    """A request: what is sent, and what the model server does with it."""

    number: int
    limit: str
    key: str
    endpoint: str
    ending: str
    body: bytes
    headers: dict
    words: int
    think: float = 0.0
    pace: float = 0.0
    status: int = 0
    sent: float = 0.0
    left: float | None = None
    answered: int = 0
    wait: float = 0.0

    def audio(self, path):
        return b"\0" * 2_000 if path == "audio/speech" else None


def text(dice, most):
    alphabet = ["plain words ", "data: ", "{\"x\": ", "räksmörgås ", "0123456789", "你好，世界", "\\n\"'"]
    return "".join(dice.choice(alphabet) for _ in range(dice.randint(1, max(1, most // 8))))


def draw(dice, number, limit, key):
    """One request of any endpoint, with any members, and any ending."""
    ending = dice.choices(list(ENDINGS), ENDINGS.values())[0]
    endpoint = dice.choice(TEXT) if ending == "leaves in the stream" or dice.random() < 0.75 else dice.choice(OTHERS)
    body = members(dice, endpoint)
    if endpoint in TEXT:
        body["stream"] = ending == "leaves in the stream" or dice.random() < 0.5
        if body["stream"] and endpoint in TEXT[:2] and dice.random() < 0.6:
            body["stream_options"] = dice.choice([{}, {"include_usage": True}, {"include_usage": False}])
    body["model"] = "slow" if ending == "time-out" and endpoint in TEXT else "quick"
    headers, data = {"content-type": "application/json"}, json.dumps(body).encode()
    if endpoint in ("audio/transcriptions", "images/edits"):
        headers, data = form(dice)
    if ending == "nonsense":
        data = dice.choice([b"{", b"[]", b'{"model": "unknown"}', data[:-1]])
    plan = Plan(number, limit, key, endpoint, ending, data, headers, words=dice.randint(1, 200))
    plan.think = dice.choice([0, 0, 0.005, 0.03])
    if ending == "leaves before the answer":
        plan.think = 0.15
    elif ending == "leaves in the stream":
        plan.pace = 0.01
    elif ending == "time-out":
        plan.think = 0.8
    elif ending == "error":
        plan.status = dice.choice([400, 404, 422, 500])
    return plan


def members(dice, endpoint):
    body = {}
    content = text(dice, dice.choice([20, 200, 1_500]))
    if endpoint == "chat/completions":
        parts = [{"type": "text", "text": content}]
        if dice.random() < 0.2:
            parts.append({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}})
        body["messages"] = [{"role": "user", "content": dice.choice([content, parts])}]
        if dice.random() < 0.2:
            body["n"] = dice.randint(1, 4)
        if dice.random() < 0.15:
            name = text(dice, 300).replace('"', "")
            schema = {"type": "object", "properties": {name: {"type": "string"}}}
            body["tools"] = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
        if dice.random() < 0.1:
            schema = {"type": "object", "description": text(dice, 300)}
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    elif endpoint == "completions":
        tokens = [dice.randint(1, 50_000) for _ in range(dice.randint(1, 60))]
        lists = [[content, "short"], [tokens, tokens], [content] * dice.randint(1, 5)]
        body["prompt"] = dice.choice([content, tokens, *lists])
        if dice.random() < 0.2:
            body["n"] = body["best_of"] = dice.randint(1, 3)
        elif dice.random() < 0.1:
            body["best_of"] = dice.randint(1, 3)
            body["n"] = 1
    elif endpoint == "responses":
        body["input"] = dice.choice([content, [{"role": "user", "content": content}]])
        if dice.random() < 0.2:
            body["instructions"] = text(dice, 200)
    elif endpoint == "messages":
        body["messages"] = [{"role": "user", "content": content}]
        body["system"] = text(dice, 100)
    else:
        body["input" if endpoint != "images/generations" else "prompt"] = content
        if endpoint == "audio/speech":
            body["voice"] = "v"
    cap = dice.choice([None, 0, 1, 10, 40, 64])
    name = {"chat/completions": dice.choice(["max_tokens", "max_completion_tokens"]), "responses": "max_output_tokens"}
    if endpoint in TEXT and cap is not None:
        body[name.get(endpoint, "max_tokens")] = cap
    return body


def form(dice):
    fields = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nquick\r\n"
    file = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n" + "\0" * dice.randint(1, 999)
    return {"content-type": "multipart/form-data; boundary=b"}, (fields + file + "\r\n--b--\r\n").encode()


async def perform(plan, address):
    """Sends a request on a connection of its own, and ends it as planned."""
    reader, writer = await asyncio.open_connection(*address)
    headers = {"host": "x", "authorization": f"Bearer {plan.key}", "x-play": plan.number, "connection": "close"}
    headers |= plan.headers | {"content-length": len(plan.body)}
    head = f"POST /v1/{plan.endpoint} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    plan.sent = time.monotonic()
    writer.write(head.encode() + b"\r\n" + plan.body)
    try:
        patience = 0.08 if plan.ending == "leaves before the answer" else 30
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), patience)
        plan.answered = int(answer.split(b" ")[1])
        for line in answer.lower().split(b"\r\n"):
            if line.startswith(b"retry-after-ms: "):
                plan.wait = int(line[16:]) / 1_000
        if plan.ending == "leaves in the stream" and plan.answered == 200:
            await reader.read(900)
        else:
            await reader.read(-1)
    except (asyncio.TimeoutError, ConnectionError, asyncio.IncompleteReadError):
        pass
    plan.left = time.monotonic()
    writer.transport.abort()
