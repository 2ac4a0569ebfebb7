"""Anthropic's SDK on /v1/messages: its own types, its own errors."""

import anthropic
import pytest
from conftest import KEYS, MODEL, SAID, anthropic_client, fault, seen, whole

HELLO = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "one two three"}]}


@pytest.fixture(scope="module")
def good():
    return anthropic_client("good")


def test_messages(good):
    answer = whole(good.messages.create(**HELLO))
    assert answer.content[0].text == SAID
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 5)
    assert answer.stop_reason == "end_turn"


def test_messages_streamed(good):
    with good.messages.stream(**HELLO) as stream:
        assert "".join(stream.text_stream) == SAID
        usage = stream.get_final_message().usage
    assert (usage.input_tokens, usage.output_tokens) == (3, 5)


def test_events_in_their_own_types(good):
    events = [whole(event).type for event in good.messages.create(**HELLO, stream=True)]
    assert (events[0], events[-1]) == ("message_start", "message_stop")
    assert events.count("content_block_delta") == 5


def test_a_key_as_a_bearer_token():
    client = anthropic.Anthropic(base_url=anthropic_client("good").base_url, auth_token=KEYS["good"], max_retries=0)
    assert client.messages.create(**HELLO).content[0].text == SAID


def test_the_key_does_not_reach_the_model_server(good):
    answer = good.messages.with_raw_response.create(**HELLO)
    (row,) = seen(answer.headers["x-request-id"])
    assert not [name for name, value in row["headers"] if KEYS["good"] in value or name == "x-api-key"]
    assert dict(row["headers"])["anthropic-version"]


UNAUTHENTICATED = (anthropic.AuthenticationError, 401, "authentication_error")
DENIED = (anthropic.PermissionDeniedError, 403, "permission_error")


@pytest.mark.parametrize(
    "part, wanted",
    [
        *[(part, UNAUTHENTICATED) for part in ("unknown", "expired", "early", "revoked")],
        *[(part, DENIED) for part in ("frozen_key", "frozen_project", "frozen_org", "embeddings_only", "elsewhere")],
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusals(part, wanted, stream):
    with pytest.raises(anthropic.APIStatusError) as caught:
        anthropic_client(part).messages.create(**HELLO, stream=stream)
    check(caught.value, *wanted)


def check(error, kind, status, type):
    assert error.__class__ is kind
    assert (error.status_code, error.type) == (status, type)
    assert set(error.body) == {"type", "error", "request_id"}
    assert error.body["type"] == "error" and set(error.body["error"]) == {"type", "message"}
    assert error.body["request_id"] == error.response.headers["x-request-id"]
    assert error.request_id == error.body["request_id"]
    for key in KEYS.values():
        assert key.rsplit("-", 1)[1] not in str(error)


def test_two_keys(good):
    with pytest.raises(anthropic.BadRequestError) as caught:
        good.messages.create(**HELLO, extra_headers={"api-key": KEYS["other_org"]})
    check(caught.value, anthropic.BadRequestError, 400, "invalid_request_error")


def test_a_connection_lost_before_the_answer(good):
    with pytest.raises(anthropic.InternalServerError) as caught:
        good.messages.create(**HELLO, **fault("reset"))
    check(caught.value, anthropic.InternalServerError, 502, "api_error")
