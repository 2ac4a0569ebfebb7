"""Reads bodies that the gateway let in, with the parsers of Python's servers: each must read what the gateway read.

A line of standard input is a body: {"kind", "type", "body" (base64), "read": {member: value}}. A parser that refuses a
body does no harm. The last line of standard output says how many were read by whom; each line before it is a
difference.
"""

import asyncio
import base64
import io
import json
import sys
from unittest import mock

import aiohttp.web
import django.conf
import django.core.handlers.wsgi
import flask
import starlette.requests
from aiohttp import streams
from aiohttp.test_utils import make_mocked_request
from werkzeug.test import EnvironBuilder

django.conf.settings.configure(DATA_UPLOAD_MAX_MEMORY_SIZE=None)
APP = flask.Flask("gateway")
ANSWERS = [
    "n",
    "best_of",
    "n_cmpl",
    "num_return_sequences",
    "num_beams",
    "beam_size",
    "beam_width",
    "beam_search_width",
    "num_generations",
    "candidate_count",
    "num_outputs_per_prompt",
    "num_images_per_prompt",
    "num_images",
    "num_outputs",
]
MEMBERS = ["model", "stream", "answers", "max_tokens", "max_completion_tokens", "max_output_tokens"]


def environ(kind, body):
    path = "/v1/chat/completions"
    return EnvironBuilder(path, method="POST", input_stream=io.BytesIO(body),
                          headers={"content-type": kind, "content-length": str(len(body))}).get_environ()


def aiohttp_request(kind, body):
    stream = streams.StreamReader(mock.Mock(_reading_paused=False), 2**16, loop=asyncio.get_running_loop())
    stream.feed_data(body)
    stream.feed_eof()
    return make_mocked_request("POST", "/", headers={"content-type": kind}, payload=stream, client_max_size=2**30)


def starlette_request(kind, body):
    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"",
             "headers": [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]}
    return starlette.requests.Request(scope, receive)


def fields(form):
    """What a server finds by name; of several, the first and the last."""
    pairs = [(name, value) for name, value in form if isinstance(value, str)]
    return {**dict(pairs)}, dict(reversed(pairs))


async def json_readers(kind, body):
    yield "json", lambda: json.loads(body)
    yield "json of text", lambda: json.loads(body.decode())
    yield "flask", lambda: flask.Request(environ(kind, body)).get_json()
    yield "django", lambda: json.loads(django.core.handlers.wsgi.WSGIRequest(environ(kind, body)).body)
    yield "aiohttp", aiohttp_request(kind, body).json
    yield "starlette", starlette_request(kind, body).json


async def form_readers(kind, body):
    async def aiohttp_form():
        return list((await aiohttp_request(kind, body).post()).items())

    async def starlette_form():
        return list((await starlette_request(kind, body).form()).multi_items())

    def django_form():
        post = django.core.handlers.wsgi.WSGIRequest(environ(kind, body)).POST
        return [(name, value) for name, values in post.lists() for value in values]

    yield "werkzeug", lambda: list(flask.Request(environ(kind, body)).form.items(multi=True))
    yield "django", django_form
    yield "aiohttp", aiohttp_form
    yield "starlette", starlette_form


async def result(read):
    value = read()
    return await value if asyncio.iscoroutine(value) else value


def member(name, reading, form):
    """A member as a server makes use of it."""
    if name == "answers":
        counts = [reading.get(count) for count in ANSWERS]
        return max([1] + [int(count) if form else count for count in counts if count is not None])
    value = reading.get(name)
    if form and name == "stream":
        return value in ("true", "True", "1")
    return int(value) if form and name.startswith("max") and value is not None else value


def same(name, ours, theirs):
    """Whether a server that finds `theirs` does what the gateway expects of it."""
    if theirs is None or ours is None:
        return theirs is ours or (name == "stream" and not theirs and not ours)
    return theirs == ours and (name in ("model", "stream") or not isinstance(theirs, bool))


async def main():
    counts, differences = {}, 0
    for number, line in enumerate(sys.stdin):
        case = json.loads(line)
        body, kind, ours = base64.b64decode(case["body"]), case["type"], case["read"]
        readers = json_readers if case["kind"] == "json" else form_readers
        async for parser, read in readers(kind, body):
            try:
                theirs = await result(read)
            except Exception:  # noqa: BLE001 - whatever the reason, it is not read otherwise
                continue
            counts[parser] = counts.get(parser, 0) + 1
            for reading in [theirs] if case["kind"] == "json" else fields(theirs):
                found = {name: member(name, reading, case["kind"] == "form") for name in MEMBERS}
                wrong = {name: (ours.get(name), value) for name, value in found.items()
                         if not same(name, ours.get(name), value)}
                if wrong:
                    differences += 1
                    print(f"body {number}: {parser} reads {wrong} (ours, theirs) of {kind!r} {body!r}")
    print(json.dumps(counts))
    return differences > 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
