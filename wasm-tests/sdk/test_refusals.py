"""Refusals: the exception a customer's program catches, and the fields it looks at."""

import asyncio
import io

import openai
import pytest
from conftest import CHAT, EMBED, GATEWAY, KEYS, MODEL, openai_client, seen

INVALID = (openai.AuthenticationError, 401, "invalid_api_key", "Incorrect API key provided: sk-tg-")
DENIED = openai.PermissionDeniedError

# part of the key, then what comes: class, status, code, how the message begins
BY_KEY = [
    ("unknown", *INVALID),
    ("expired", *INVALID),
    ("early", *INVALID),
    ("revoked", *INVALID),
    ("mistyped", *INVALID),
    ("frozen_key", DENIED, 403, "key_suspended", "This API key has been suspended"),
    ("frozen_project", DENIED, 403, "project_suspended", "This project has been suspended"),
    ("frozen_org", DENIED, 403, "organization_suspended", "Your organization has been suspended"),
    ("embeddings_only", DENIED, 403, "insufficient_scope", "This API key has insufficient permissions"),
    ("elsewhere", DENIED, 403, "ip_not_allowed", "This API key may not be used from your network address"),
]

# What else a request of the good key can get wrong.
BY_HEADER = [
    (
        {"OpenAI-Organization": "globex"},
        (openai.AuthenticationError, 401, "mismatched_organization", "The OpenAI-Organization header does not match"),
    ),
    (
        {"OpenAI-Project": "archive"},
        (openai.AuthenticationError, 401, "mismatched_project", "The OpenAI-Project header does not match"),
    ),
    (
        {"x-api-key": KEYS["other_org"]},
        (openai.BadRequestError, 400, "ambiguous_credentials", "The request carries two different API keys"),
    ),
    (
        {"Authorization": openai.Omit()},
        (openai.AuthenticationError, 401, "missing_api_key", "No API key was given"),
    ),
]


def check(error, kind, status, code, begins, type="invalid_request_error"):
    """Every field that a program looks at, and no secret in any text that it logs."""
    assert error.__class__ is kind
    assert (error.status_code, error.code, error.type, error.param) == (status, code, type, None)
    assert error.body["message"].startswith(begins)
    assert set(error.body) == {"message", "type", "param", "code"}
    assert error.response.headers["content-type"] == "application/json"
    assert len(error.request_id) == 36
    for key in KEYS.values():
        assert key.rsplit("-", 1)[1] not in str(error)
    assert seen(error.request_id) == [], "a refused request reached the model server"


@pytest.fixture(scope="session", autouse=True)
def mistyped():
    """One letter of the good key is another one."""
    at = len(KEYS["good"]) // 2
    letter = "a" if KEYS["good"][at] != "a" else "b"
    KEYS["mistyped"] = KEYS["good"][:at] + letter + KEYS["good"][at + 1 :]


@pytest.mark.parametrize("part, kind, status, code, begins", BY_KEY)
@pytest.mark.parametrize("stream", [False, True])
def test_by_key(part, kind, status, code, begins, stream):
    with pytest.raises(openai.APIStatusError) as caught:
        openai_client(part).chat.completions.create(**CHAT, stream=stream)
    check(caught.value, kind, status, code, begins)


@pytest.mark.parametrize("part, kind, status, code, begins", BY_KEY)
def test_by_key_async(part, kind, status, code, begins):
    async def chat():
        async with openai.AsyncOpenAI(base_url=f"{GATEWAY}/v1", api_key=KEYS[part], max_retries=0) as client:
            await client.chat.completions.create(**CHAT, stream=True)

    with pytest.raises(openai.APIStatusError) as caught:
        asyncio.run(chat())
    check(caught.value, kind, status, code, begins)


@pytest.mark.parametrize("headers, wanted", BY_HEADER)
def test_by_header(headers, wanted):
    with pytest.raises(openai.APIStatusError) as caught:
        openai_client("good").chat.completions.create(**CHAT, extra_headers=headers)
    check(caught.value, *wanted)


@pytest.mark.parametrize("part, kind, status, code, begins", BY_KEY)
def test_the_sdk_does_not_retry_them(part, kind, status, code, begins):
    """They cannot get better by waiting."""
    calls = []
    client = openai_client(part, max_retries=2)
    client._client.event_hooks["request"].append(calls.append)
    with pytest.raises(kind):
        client.chat.completions.create(**CHAT)
    assert len(calls) == 1


ENDPOINTS = {
    "chat": lambda client: client.chat.completions.create(**CHAT),
    "completions": lambda client: client.completions.create(model=MODEL, prompt="one"),
    "responses": lambda client: client.responses.create(model=MODEL, input="one"),
    "moderations": lambda client: client.moderations.create(model=MODEL, input="one"),
    "images": lambda client: client.images.generate(model=MODEL, prompt="one"),
    "edits": lambda client: client.images.edit(model=MODEL, prompt="one", image=upload()),
    "speech": lambda client: client.audio.speech.create(model=MODEL, input="one", voice="alloy"),
    "transcriptions": lambda client: client.audio.transcriptions.create(model=MODEL, file=upload()),
    "translations": lambda client: client.audio.translations.create(model=MODEL, file=upload()),
    "models": lambda client: client.models.list(),
    "model": lambda client: client.models.retrieve("llama-8b"),
}
SCOPES = {
    "completions": "chat",
    "responses": "chat",
    "edits": "images",
    "speech": "audio",
    "transcriptions": "audio",
    "translations": "audio",
    "model": "models",
}


def upload():
    return ("file.bin", io.BytesIO(b"RIFF" + bytes(2000)), "application/octet-stream")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_scope_is_needed_for_each_endpoint(endpoint):
    with pytest.raises(openai.PermissionDeniedError) as caught:
        ENDPOINTS[endpoint](openai_client("embeddings_only"))
    check(caught.value, DENIED, 403, "insufficient_scope", "This API key has insufficient permissions")
    assert caught.value.body["message"].endswith(f"Missing scope: {SCOPES.get(endpoint, endpoint)}.")


def test_the_scope_that_it_has_is_enough():
    assert openai_client("embeddings_only").embeddings.create(model=EMBED, input="one").data


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_no_endpoint_is_open(endpoint):
    with pytest.raises(openai.AuthenticationError) as caught:
        ENDPOINTS[endpoint](openai_client("unknown"))
    check(caught.value, *INVALID)


def test_an_endpoint_that_is_not_served(good):
    with pytest.raises(openai.NotFoundError) as caught:
        good.fine_tuning.jobs.list()
    check(caught.value, openai.NotFoundError, 404, "unknown_url", "Unknown URL: GET /v1/fine_tuning/jobs")


def test_too_large_a_body(good):
    with pytest.raises(openai.APIStatusError) as caught:
        good.embeddings.create(model=EMBED, input="x" * 34_000_000)
    check(caught.value, openai.APIStatusError, 413, "request_too_large", "Request body too large")
