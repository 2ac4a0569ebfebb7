"""Limits as the SDKs meet them: they wait as they are told and succeed, and don't where waiting can't mend it. On a
gateway of its own, whose limits are in tests/support/limits.rs of the harness. Each test has a key of its own."""

import datetime
import re
import time

import anthropic
import openai
import pytest
from conftest import CHAT, EMBED, MODEL, SAID, anthropic_client, fault, openai_client, seen

HELLO = {**CHAT, "max_tokens": 64}


def completion(client, tokens):
    """A completion of so many tokens, none of which is given back."""
    return client.completions.create(model=MODEL, prompt="one", max_tokens=tokens, **fault(f"tokens={tokens}"))


def embedding(client):
    return client.embeddings.create(model=EMBED, input="one")


def patient(make, part):
    """A client that retries as the SDK does by itself, and its answers with the time of each request and answer."""
    client, answers, sent = make(part, max_retries=2), [], []
    client._client.event_hooks["request"].append(lambda request: sent.append(time.monotonic()))
    client._client.event_hooks["response"].append(lambda answer: answers.append((sent[-1], answer, time.monotonic())))
    return client, answers


def check(error, kind, code, message):
    """Every field that a program looks at."""
    assert error.__class__ is openai.RateLimitError
    assert (error.status_code, error.type, error.code, error.param) == (429, kind, code, None)
    assert re.fullmatch(message, error.body["message"]), error.body["message"]
    assert set(error.body) == {"message", "type", "param", "code"}
    assert error.response.headers["content-type"] == "application/json"
    assert len(error.request_id) == 36
    assert seen(error.request_id) == [], "a refused request reached the model server"


def waited_as_told(answers):
    """One refusal, and one answer no earlier than it said."""
    (_, refused, told), (sent, good, _) = answers
    assert (refused.status_code, good.status_code) == (429, 200)
    assert sent - told >= int(refused.headers["retry-after-ms"]) / 1000


@pytest.mark.parametrize("stream", [False, True])
def test_a_requests_limit(stream):
    client = openai_client("rotated" if stream else "good")
    headers = client.chat.completions.with_raw_response.create(**CHAT, stream=stream).headers
    assert headers["x-ratelimit-limit-requests"] == "20"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "3s"
    assert headers["ratelimit-policy"] == '"chat-rpm";q=20;w=60'
    assert headers["ratelimit"] == '"chat-rpm";r=0;t=3'
    assert "retry-after" not in headers
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**CHAT, stream=stream)
    whose = r"Rate limit reached for llama-70b for key \w+ on requests per min \(RPM\): "
    numbers = r"Limit 20 \(at once 1\), Used 1, Requested 1\. Please try again in (\d+ms|[12](\.\d+)?s|3s)\."
    check(caught.value, "requests", "rate_limit_exceeded", whose + numbers)
    headers = caught.value.response.headers
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert 0 < int(headers["retry-after-ms"]) <= int(headers["retry-after"]) * 1000 <= 3000
    assert "x-should-retry" not in headers


def test_the_sdk_waits_and_succeeds():
    client, answers = patient(openai_client, "leaver")
    for _ in range(2):
        assert client.chat.completions.create(**CHAT).choices[0].message.content == SAID
    waited_as_told(answers[1:])


def test_a_token_limit():
    client, answers = patient(openai_client, "good")
    completion(client, 180)
    headers = answers[0][1].headers
    assert headers["x-ratelimit-limit-tokens"] == "6000"
    assert int(headers["x-ratelimit-remaining-tokens"]) <= 20
    completion(client, 180)
    waited_as_told(answers[1:])
    error = answers[1][1].json()["error"]
    assert (error["type"], error["code"]) == ("tokens", "rate_limit_exceeded")
    assert "on tokens per min (TPM): Limit 6000 (at once 200), Used " in error["message"]


def test_what_can_never_fit_is_not_sent_again():
    client, answers = patient(openai_client, "home")
    with pytest.raises(openai.APIStatusError) as caught:
        completion(client, 1000)
    message = r"Request too large for llama-70b for key \w+ on tokens per min \(TPM\): Limit 6000 \(at once 200\), "
    check(caught.value, "tokens", "request_too_large_for_limit", message + r"Requested 10\d\d\.")
    headers = caught.value.response.headers
    assert headers["x-should-retry"] == "false" and not {"retry-after", "retry-after-ms"} & set(headers)
    assert len(answers) == 1
    completion(client, 100)


def test_a_spent_day_is_told_at_once():
    client, answers = patient(openai_client, "good")
    embedding(client)
    with pytest.raises(openai.APIStatusError) as caught:
        embedding(client)
    message = r"Quota spent for llama-embed for key \w+ on requests per day \(RPD\): Limit 1, Used 1, Requested 1\. .*"
    check(caught.value, "insufficient_quota", "insufficient_quota", message)
    headers = caught.value.response.headers
    assert headers["x-should-retry"] == "false" and not {"retry-after", "retry-after-ms"} & set(headers)
    assert len(answers) == 2
    embedding(openai_client("rotated"))


def test_anthropic():
    client = anthropic_client("good")
    headers = client.messages.with_raw_response.create(**HELLO).headers
    wanted = {"requests-limit": "20", "requests-remaining": "0", "tokens-limit": "100000"}
    assert {name: headers[f"anthropic-ratelimit-{name}"] for name in wanted} == wanted
    assert int(headers["anthropic-ratelimit-tokens-remaining"]) < 100_000
    for what in ("requests", "tokens"):
        full = datetime.datetime.fromisoformat(headers[f"anthropic-ratelimit-{what}-reset"])
        left = full - datetime.datetime.now(datetime.UTC)
        assert datetime.timedelta(0) <= left <= datetime.timedelta(seconds=5)
    with pytest.raises(anthropic.RateLimitError) as caught:
        client.messages.create(**HELLO)
    error = caught.value
    assert (error.status_code, error.type) == (429, "rate_limit_error")
    assert error.body["error"]["message"].startswith("Rate limit reached for llama-70b for key ")
    assert error.body["request_id"] == error.response.headers["x-request-id"]
    assert error.response.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert int(error.response.headers["retry-after"]) <= 3


def test_anthropic_waits_and_succeeds():
    client, answers = patient(anthropic_client, "rotated")
    for _ in range(2):
        assert client.messages.create(**HELLO).content[0].text == SAID
    waited_as_told(answers[1:])
