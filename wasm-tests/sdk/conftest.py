"""The gateway under test, and clients as customers make them.

TOLLGATE_SDK is a JSON object:
  gateway  http://127.0.0.1:PORT of the gateway
  models   http://127.0.0.1:PORT of the model server behind it
  keys     keys by the part they play; see src/stack/cast.rs of the harness
"""

import json
import os
import time
import urllib.request

import anthropic
import openai
import pytest

FACTS = json.loads(os.environ["TOLLGATE_SDK"])
GATEWAY, MODELS, KEYS = FACTS["gateway"], FACTS["models"], FACTS["keys"]

MODEL = "llama-70b"
# Of other endpoints.
EMBED, GUARD, DRAW, SPEAK, LISTEN = "llama-embed", "llama-guard", "flux", "kokoro", "whisper-large"
# Of the organization acme, and not of its project search.
HELD = "gpt-oss-120b"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "one two three"}]}
# The model server repeats what it was told and counts words.
SAID = "llama-70b heard: one two three"


CLIENTS = []


def to_be_closed(client):
    """A client that is closed at the end: one that is merely forgotten leaves its connections to chance."""
    CLIENTS.append(client)
    return client


def openai_client(part, **more):
    """An OpenAI client with the key that plays `part`."""
    more = {"max_retries": 0, "timeout": 20, **more}
    return to_be_closed(openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key=KEYS[part], **more))


def anthropic_client(part, **more):
    """An Anthropic client with the key that plays `part`."""
    more = {"max_retries": 0, "timeout": 20, **more}
    return to_be_closed(anthropic.Anthropic(base_url=GATEWAY, api_key=KEYS[part], **more))


def fault(text):
    """Asks the model server to answer in a certain way."""
    return {"extra_headers": {"x-model-fault": text}}


def seen(request_id, ended=True):
    """What the model server saw of a request, once it has ended."""
    deadline = time.monotonic() + 10
    while True:
        with urllib.request.urlopen(f"{MODELS}/seen?request_id={request_id}", timeout=10) as answer:
            rows = json.load(answer)
        if not ended or all(row["ending"] != "running" for row in rows):
            return rows
        assert time.monotonic() < deadline, rows
        time.sleep(0.005)


def whole(answer):
    """An SDK builds its types from whatever came, without a look; here they are validated."""
    type(answer).model_validate(answer.to_dict())
    return answer


@pytest.fixture(scope="session")
def good():
    return openai_client("good")


@pytest.fixture(scope="session", autouse=True)
def closed():
    yield
    for client in CLIENTS:
        client.close()
