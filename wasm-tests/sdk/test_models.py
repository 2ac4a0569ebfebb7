"""Which models a key may use, and what the SDK says where it may not, or where a model's target fails."""

import io

import openai
import pytest
from conftest import CHAT, EMBED, HELD, LISTEN, MODEL, SAID, fault, openai_client, seen, whole


def check(error, status, code, param, message):
    assert (error.status_code, error.code, error.param) == (status, code, param)
    assert error.type == "invalid_request_error"
    assert error.body["message"] == message
    assert seen(error.request_id) == [], "a refused request reached the model server"


def test_a_key_is_shown_what_it_may_use():
    mine = {model.id for model in openai_client("good").models.list()}
    theirs = {model.id for model in openai_client("other_org").models.list()}
    assert {MODEL, EMBED, LISTEN} < mine and HELD not in mine
    assert theirs < mine and LISTEN not in theirs
    entry = whole(openai_client("good").models.retrieve(MODEL))
    assert (entry.id, entry.object, entry.owned_by) == (MODEL, "model", "meta")


@pytest.mark.parametrize("name", ["gpt-5", "llama-70B", "../llama-70b", "LLAMA-70B"])
def test_a_model_that_is_not_there(good, name):
    with pytest.raises(openai.NotFoundError) as caught:
        good.chat.completions.create(**{**CHAT, "model": name})
    message = f"The model `{name}` does not exist or you do not have access to it."
    check(caught.value, 404, "model_not_found", "model", message)


def test_one_that_others_may_use_is_not_there_either():
    with pytest.raises(openai.NotFoundError) as caught:
        openai_client("other_org").chat.completions.create(**{**CHAT, "model": HELD})
    message = f"The model `{HELD}` does not exist or you do not have access to it."
    check(caught.value, 404, "model_not_found", "model", message)
    with pytest.raises(openai.NotFoundError):
        openai_client("other_org").models.retrieve(HELD)


def test_one_that_the_organization_may_use_and_this_project_not(good):
    with pytest.raises(openai.PermissionDeniedError) as caught:
        good.chat.completions.create(**{**CHAT, "model": HELD})
    message = f"Project `search` does not have access to model `{HELD}`."
    check(caught.value, 403, "model_not_found", "model", message)


def test_no_model(good):
    with pytest.raises(openai.BadRequestError) as caught:
        good.post("/chat/completions", body={"messages": []}, cast_to=object)
    check(caught.value, 400, "missing_model", "model", "The request names no model: `model` is missing.")


def test_a_model_at_another_endpoint(good):
    with pytest.raises(openai.BadRequestError) as caught:
        good.embeddings.create(model=MODEL, input="one")
    check(caught.value, 400, "unsupported_parameter", "model", f"The model `{MODEL}` is not served at this endpoint.")


def test_far_more_than_its_window_holds(good):
    with pytest.raises(openai.BadRequestError) as caught:
        good.completions.create(model=MODEL, prompt="x" * 3_000_000)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")


def test_by_an_alias(good):
    answer = good.chat.completions.with_raw_response.create(**{**CHAT, "model": "llama-3.3-70b"})
    assert answer.headers["x-tollgate-model"] == MODEL
    assert answer.headers["x-tollgate-route"] == "primary"


def test_an_answer_says_who_served(good):
    answer = good.chat.completions.with_raw_response.create(**CHAT)
    assert answer.headers["x-tollgate-model"] == MODEL
    assert answer.parse().choices[0].message.content == SAID


@pytest.mark.parametrize("size", [0, 1_000, 30_000_000])
def test_sound_of_any_size(good, size):
    sound = ("talk.wav", io.BytesIO(b"\r\n--\0" + bytes(size)), "audio/wav")
    answer = good.audio.transcriptions.with_raw_response.create(model=LISTEN, file=sound, language="de")
    assert answer.headers["x-tollgate-model"] == LISTEN
    assert answer.parse().usage.input_tokens == -(-(size + 5) // 1000)


def test_a_busy_model_server_is_asked_again(good):
    """503 says that nothing was begun: the gateway tries again by itself, as often as it may."""
    with pytest.raises(openai.InternalServerError) as caught:
        good.chat.completions.create(**CHAT, **fault("status=503"))
    assert len(seen(caught.value.request_id)) == 3
