"""What a model server answers or fails at, as the SDK tells it."""

import openai
import pytest
from conftest import CHAT, fault, openai_client, seen


def chat(client, how, **more):
    return client.chat.completions.create(**CHAT, **more, **fault(how))


def test_its_own_error_passes_unchanged(good):
    with pytest.raises(openai.RateLimitError) as caught:
        chat(good, "status=429, retry-after=7")
    error = caught.value
    assert (error.status_code, error.type, error.code) == (429, "requests", None)
    assert error.body["message"] == "The model server was told to fail."
    assert error.response.headers["retry-after"] == "7"
    assert not error.request_id.startswith("upstream-")


def test_a_500_is_not_sent_again(good):
    with pytest.raises(openai.InternalServerError) as caught:
        chat(good, "status=500")
    assert caught.value.type == "server_error"
    assert len(seen(caught.value.request_id)) == 1, "its tokens may have been spent"


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_connection_lost_before_the_answer(good, how):
    with pytest.raises(openai.InternalServerError) as caught:
        chat(good, how)
    error = caught.value
    assert (error.status_code, error.type, error.code, error.param) == (502, "server_error", "upstream_error", None)
    assert error.request_id


@pytest.mark.parametrize("how", ["cut=3", "tear=3"])
def test_a_stream_that_breaks_is_no_end(good, how):
    """The SDK raises: a customer does not take half an answer for a whole one."""
    stream = chat(good, how, stream=True)
    text = ""
    with pytest.raises(Exception) as caught:
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    assert text in ("llama-70b", "llama-70b heard:")
    assert "peer closed connection" in str(caught.value) or isinstance(caught.value, openai.APIConnectionError)


def test_a_client_that_hangs_up_is_noticed_upstream(good):
    """The model server stops working for nobody."""
    create = good.chat.completions.with_streaming_response.create
    with create(**CHAT, stream=True, **fault("pace=20ms, tokens=100000")) as answer:
        request_id = answer.request_id
        next(answer.iter_lines())
    (row,) = seen(request_id)
    assert row["ending"] == "aborted" and row["output_tokens"] < 100_000


def test_a_slow_first_byte_is_waited_for():
    client = openai_client("good", timeout=20)
    assert chat(client, "first-byte=1s").choices[0].message.content
