"""Guessing keys gets slow, and only guessing. On a gateway of its own with the limit as shipped: 30 a minute."""

import openai
import pytest
from conftest import CHAT, SAID, openai_client


def test_guessing_is_limited_and_nobody_else():
    guesser = openai_client("unknown", max_retries=2)
    calls = []
    guesser._client.event_hooks["request"].append(calls.append)
    for guesses in range(60):
        with pytest.raises(openai.APIStatusError) as caught:
            guesser.chat.completions.create(**CHAT)
        if caught.value.status_code != 401:
            break
    # One more is granted every two seconds.
    assert 30 <= guesses < 60
    error = caught.value
    assert error.__class__ is openai.RateLimitError
    assert (error.status_code, error.code, error.type, error.param) == (429, "rate_limit_exceeded", "requests", None)
    assert error.response.headers["x-should-retry"] == "false" and "retry-after" not in error.response.headers
    assert error.request_id
    assert len(calls) == guesses + 1, "the SDK does not retry what waiting cannot mend"
    assert openai_client("good").chat.completions.create(**CHAT).choices[0].message.content == SAID
