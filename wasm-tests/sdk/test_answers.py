"""Good answers: each API through the gateway, in the SDK's own types, and what went on to the model server."""

import asyncio
import io
import time

import openai
import pytest
from conftest import (
    CHAT,
    DRAW,
    EMBED,
    GATEWAY,
    GUARD,
    KEYS,
    LISTEN,
    MODEL,
    SAID,
    SPEAK,
    fault,
    openai_client,
    seen,
    whole,
)


def test_chat(good):
    answer = whole(good.chat.completions.create(**CHAT))
    assert answer.choices[0].message.content == SAID
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 5)


def test_chat_streamed(good):
    chunks = [whole(chunk) for chunk in good.chat.completions.create(**CHAT, stream=True)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SAID
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_chat_streamed_with_usage(good):
    options = {"include_usage": True}
    *chunks, last = good.chat.completions.create(**CHAT, stream=True, stream_options=options)
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (3, 5)
    assert all(chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("how", ["chunk=1", "chunk=7", "chunk=random:3", "batch=1000"])
def test_a_stream_survives_any_chunking(good, how):
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "Grüß Gott 東京 🚀"}]}
    chunks = good.chat.completions.create(**chat, stream=True, **fault(how))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "llama-70b heard: Grüß Gott 東京 🚀"


def test_events_come_when_they_are_sent(good):
    """Twelve events 100 ms apart: held back to the end, they would come at once."""
    stream = good.chat.completions.create(**CHAT, stream=True, **fault("pace=100ms, tokens=9"))
    times = [time.monotonic() for _ in stream]
    assert len(times) == 11
    assert times[-1] - times[0] > 0.5


def test_completions(good):
    answer = whole(good.completions.create(model=MODEL, prompt="one two three"))
    assert answer.choices[0].text == SAID
    chunks = good.completions.create(model=MODEL, prompt="one two three", stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == SAID


def test_responses(good):
    answer = whole(good.responses.create(model=MODEL, input="one two three", instructions="be brief"))
    assert answer.output_text == SAID
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (5, 5)


def test_responses_streamed(good):
    events = list(good.responses.create(model=MODEL, input="one two three", stream=True))
    for event in events:
        whole(event)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == SAID
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.output_tokens == 5


def test_responses_by_the_sdks_stream_helper(good):
    with good.responses.stream(model=MODEL, input="one two three") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == SAID


@pytest.mark.parametrize("encoding", ["float", "base64", openai.omit])
def test_embeddings(good, encoding):
    answer = good.embeddings.create(model=EMBED, input=["one two", "three"], encoding_format=encoding)
    assert len(answer.data) == 2
    assert answer.usage.prompt_tokens == 3
    if encoding != "base64":
        whole(answer)
        assert [len(row.embedding) for row in answer.data] == [16, 16]


def test_moderations(good):
    answer = whole(good.moderations.create(model=GUARD, input=["fine", "please flag me"]))
    assert len(answer.results) == 2
    assert answer.results[0].flagged and answer.results[0].categories.violence


def test_images(good):
    answer = whole(good.images.generate(model=DRAW, prompt="a cat", n=2))
    assert len(answer.data) == 2 and answer.data[0].b64_json
    events = list(good.images.generate(model=DRAW, prompt="a cat", stream=True, partial_images=1))
    assert [whole(event).type for event in events] == ["image_generation.partial_image", "image_generation.completed"]


def test_an_image_is_edited_by_upload(good):
    image = ("cat.png", io.BytesIO(b"\x89PNG" + bytes(100_000)), "image/png")
    answer = whole(good.images.edit(model=DRAW, prompt="a hat on it", image=image))
    assert answer.data[0].b64_json
    assert answer.usage.input_tokens == 101 + 4


def test_speech(good):
    with good.audio.speech.with_streaming_response.create(model=SPEAK, input="one two", voice="alloy") as answer:
        assert answer.headers["content-type"] == "audio/mpeg"
        sound = answer.read()
    assert len(sound) == 4 * 128


def test_sound_is_uploaded(good):
    sound = ("talk.wav", io.BytesIO(b"RIFF" + bytes(3_000_000)), "audio/wav")
    answer = whole(good.audio.transcriptions.create(model=LISTEN, file=sound))
    assert answer.text == "whisper-large heard:"
    assert answer.usage.input_tokens == 3001


def test_a_transcription_is_streamed(good):
    sound = ("talk.wav", io.BytesIO(b"RIFF"), "audio/wav")
    events = list(good.audio.transcriptions.create(model=LISTEN, file=sound, prompt="one two three", stream=True))
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == "whisper-large heard: one two three"
    assert events[-1].type == "transcript.text.done"


def test_a_translation(good):
    sound = ("talk.wav", io.BytesIO(b"RIFF"), "audio/wav")
    assert whole(good.audio.translations.create(model=LISTEN, file=sound)).text == "whisper-large heard:"


def test_models(good):
    """Those that the key may use, of whatever endpoint."""
    ids = [whole(model).id for model in good.models.list()]
    assert ids == sorted([MODEL, "llama-8b", EMBED, GUARD, DRAW, SPEAK, LISTEN])
    assert good.models.retrieve("llama-8b").id == "llama-8b"


def test_async():
    async def chat():
        async with openai.AsyncOpenAI(base_url=f"{GATEWAY}/v1", api_key=KEYS["good"], max_retries=0) as client:
            stream = await client.chat.completions.create(**CHAT, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(chat()) == SAID


@pytest.mark.parametrize("part", ["rotated", "home", "other_org"])
def test_other_good_keys(part):
    assert openai_client(part).chat.completions.create(**CHAT).choices[0].message.content == SAID


def test_the_keys_own_organization_and_project_may_be_named():
    client = openai_client("good", organization="acme", project="search")
    assert client.chat.completions.create(**CHAT).choices[0].message.content == SAID


def test_azures_header():
    """Azure's API takes the key in `api-key`."""
    headers = {"Authorization": openai.Omit(), "api-key": KEYS["good"]}
    answer = openai_client("unknown").chat.completions.create(**CHAT, extra_headers=headers)
    assert answer.choices[0].message.content == SAID


def test_what_the_model_server_sees(good):
    """The gateway's request id and identity; no credential in any header, whatever the client claims."""
    lies = {
        "x-request-id": "mine",
        "x-tollgate-org": "globex",
        "x-tollgate-tier": "unlimited",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "api-key": KEYS["good"],
        "x-api-key": KEYS["good"],
    }
    answer = good.chat.completions.create(**CHAT, extra_headers=lies)
    assert answer._request_id not in (None, "mine")
    (row,) = seen(answer._request_id)
    headers = dict(row["headers"])
    assert len(headers) == len(row["headers"]), "a header came twice"
    identity = [headers[f"x-tollgate-{name}"] for name in ("org", "project", "tier", "key-id")]
    assert identity == ["acme", "search", "pro", KEYS["good"].split("-")[2]]
    for name, value in headers.items():
        assert KEYS["good"] not in value, name
        assert name not in ("authorization", "api-key", "x-api-key", "x-envoy-upstream-rq-timeout-ms")


def test_answers_carry_openais_headers(good):
    answer = good.chat.completions.with_raw_response.create(**CHAT)
    assert answer.headers["openai-organization"] == "acme"
    assert answer.headers["openai-version"] == "2020-10-01"
    assert int(answer.headers["openai-processing-ms"]) >= 0
    assert not answer.headers["x-request-id"].startswith("upstream-")
