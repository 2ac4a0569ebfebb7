"""A model server that counts what it reads and writes, by rules of its own.

It keeps to what real servers do: a cap of zero is no cap, each prompt of a list gets an answer of its own, `best_of`
answers are written though one is sent. A token is eight bytes of text it reads, names of members included; one number of
a list of tokens; a sixteenth of a picture; and one word it writes.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field

# What the catalogue says too: without a cap a model writes up to this.
MAX_OUTPUT = 64
PICTURE = 16
CAPS = {
    "chat/completions": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
}


@dataclass
class Attempt:
    """One request as it came to the server, and what was done for it."""

    play: int
    received: float
    read: int = 0
    written: int = 0
    ended: float | None = None


@dataclass
class Ask:
    """What a body asks for."""

    endpoint: str
    body: dict
    stream: bool = False
    answers: int = 1
    cap: int = MAX_OUTPUT
    read: int = 0
    usage: bool = True
    words: list = field(default_factory=list)


def text_and_tokens(value, place=""):
    """Bytes of text, and tokens that came as such: numbers of lists, and pictures."""
    if isinstance(value, dict):
        parts = [text_and_tokens(member, name) for name, member in value.items()]
        names = sum(len(name.encode()) for name in value)
        return names + sum(text for text, _ in parts), sum(tokens for _, tokens in parts)
    if isinstance(value, list):
        numbers = sum(isinstance(item, int) and not isinstance(item, bool) for item in value)
        parts = [text_and_tokens(item, place) for item in value]
        return sum(text for text, _ in parts), numbers + sum(tokens for _, tokens in parts)
    if isinstance(value, str):
        if place in ("url", "image_url") and value.startswith("data:image/") and ";base64," in value:
            return 0, PICTURE
        return len(value.encode()), 0
    return 0, 0


def read(endpoint, body):
    """What a request asks for, as the server of its endpoint understands it."""
    ask = Ask(endpoint, body)
    members = ("messages", "prompt", "input", "system", "instructions", "tools", "response_format", "text", "suffix")
    text, tokens = text_and_tokens({name: body[name] for name in members if name in body})
    ask.read = text // 8 + tokens
    caps = [body[name] for name in CAPS.get(endpoint, ()) if body.get(name)]
    ask.cap = max(caps) if caps else MAX_OUTPUT
    ask.stream = body.get("stream") is True
    prompts = body.get("prompt")
    several = isinstance(prompts, list) and prompts and not isinstance(prompts[0], int)
    ask.answers = (len(prompts) if several else 1) * max(body.get("n") or 1, body.get("best_of") or 1)
    options = body.get("stream_options") or {}
    ask.usage = not ask.stream or options.get("include_usage") is True or endpoint in ("responses", "messages")
    return ask


class Model:
    """The server, its plans for each request, and its book."""

    def __init__(self):
        self.attempts = []
        self.plans = {}

    async def start(self):
        server = await asyncio.start_server(self.connection, "127.0.0.1", 0, limit=1 << 20)
        return server.sockets[0].getsockname()[1]

    async def connection(self, reader, writer):
        try:
            while await self.request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The gateway closed it, or all is over.
            pass
        finally:
            writer.close()

    async def request(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
        path = head[0].split(" ")[1].removeprefix("/v1/")
        if path.startswith("/"):
            await answer(writer, 200, {})
            return True
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            body = b""
            while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
                body += await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readuntil(b"\r\n")
        attempt = Attempt(int(headers["x-play"]), time.monotonic())
        self.attempts.append(attempt)
        try:
            await self.serve(path, body, attempt, writer)
        finally:
            attempt.ended = time.monotonic()
        return True

    async def serve(self, path, body, attempt, writer):
        plan = self.plans[attempt.play]
        if plan.status:
            await answer(writer, plan.status, {"error": {"message": "no", "type": "t", "param": None, "code": "c"}})
            return
        form = path.startswith("audio/t") or path == "images/edits"
        ask = Ask(path, {}, answers=0) if form else read(path, json.loads(body))
        attempt.read = ask.read
        await asyncio.sleep(plan.think)
        if path not in CAPS:
            await answer(writer, 200, other(ask), plan.audio(path))
            return
        words = min(plan.words, ask.cap)
        if not ask.stream:
            attempt.written = words * ask.answers
            await answer(writer, 200, whole(ask, attempt))
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for event in begin(ask, attempt):
            await send(writer, event)
        for word in range(words):
            # All answers are written side by side; one event tells of each.
            for index in range(ask.answers):
                attempt.written += 1
                await send(writer, delta(ask, index))
            if word % 8 == 0:
                await asyncio.sleep(plan.pace)
        for event in end(ask, attempt):
            await send(writer, event)
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def send(writer, event):
    if writer.is_closing():
        raise ConnectionResetError
    name, data = event if isinstance(event, tuple) else (None, event)
    text = (f"event: {name}\n" if name else "") + f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"
    writer.write(f"{len(text):x}\r\n{text}\r\n".encode())
    await writer.drain()


async def answer(writer, status, value, audio=None):
    body = audio or json.dumps(value).encode()
    kind = "audio/mpeg" if audio else "application/json"
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


def openai_usage(attempt):
    total = attempt.read + attempt.written
    return {"prompt_tokens": attempt.read, "completion_tokens": attempt.written, "total_tokens": total}


def own_usage(attempt):
    return {"input_tokens": attempt.read, "output_tokens": attempt.written}


def whole(ask, attempt):
    text = "word " * (attempt.written // max(ask.answers, 1))
    if ask.endpoint == "chat/completions":
        choices = [{"index": i, "message": {"role": "assistant", "content": text}} for i in range(ask.answers)]
        return {"object": "chat.completion", "choices": choices, "usage": openai_usage(attempt)}
    if ask.endpoint == "completions":
        choices = [{"index": i, "text": text} for i in range(ask.answers)]
        return {"object": "text_completion", "choices": choices, "usage": openai_usage(attempt)}
    if ask.endpoint == "responses":
        content = [{"type": "output_text", "text": text}]
        output = [{"type": "message", "role": "assistant", "content": content}]
        return {"object": "response", "status": "completed", "output": output, "usage": own_usage(attempt)}
    content = [{"type": "text", "text": text}]
    return {"type": "message", "role": "assistant", "content": content, "usage": own_usage(attempt)}


def other(ask):
    usage = {"prompt_tokens": ask.read, "total_tokens": ask.read}
    if ask.endpoint == "embeddings":
        return {"object": "list", "data": [{"index": 0, "embedding": [0.5]}], "usage": usage}
    if ask.endpoint == "moderations":
        return {"id": "m", "results": [{"flagged": False}]}
    if ask.endpoint.startswith("images/"):
        return {"created": 1, "data": [{"b64_json": "aGVsbG8="}]}
    return {"text": "spoken words"}


def begin(ask, attempt):
    if ask.endpoint == "messages":
        message = {"type": "message", "role": "assistant", "content": [], "usage": {**own_usage(attempt), "output_tokens": 1}}
        yield "message_start", {"type": "message_start", "message": message}
    if ask.endpoint == "responses":
        yield "response.created", {"type": "response.created", "response": {"status": "in_progress"}}


def delta(ask, index):
    if ask.endpoint == "chat/completions":
        return {"object": "chat.completion.chunk", "choices": [{"index": index, "delta": {"content": "word "}}]}
    if ask.endpoint == "completions":
        return {"object": "text_completion", "choices": [{"index": index, "text": "word "}]}
    if ask.endpoint == "responses":
        return "response.output_text.delta", {"type": "response.output_text.delta", "delta": "word "}
    text = {"type": "text_delta", "text": "word "}
    return "content_block_delta", {"type": "content_block_delta", "index": 0, "delta": text}


def end(ask, attempt):
    if ask.endpoint == "responses":
        response = {"status": "completed", "usage": own_usage(attempt)}
        yield "response.completed", {"type": "response.completed", "response": response}
    elif ask.endpoint == "messages":
        usage = {"output_tokens": attempt.written}
        yield "message_delta", {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}
        yield "message_stop", {"type": "message_stop"}
    else:
        if ask.usage:
            yield {"choices": [], "usage": openai_usage(attempt)}
        yield "[DONE]"
