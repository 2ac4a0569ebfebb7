"""A tour of the gateway: real exchanges, each with what came, and a complaint where that is not what was promised.

`make demo` starts the gateway and runs this. It is told where things are by TOLLGATE_TOUR, a JSON object:
  gateway   http://127.0.0.1:PORT of the gateway
  models    http://127.0.0.1:PORT of the model server behind it, which tells what it saw at /seen
  key_auth  the file with the keys, which the tour edits to revoke one
  keys      keys by the part they play
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

try:
    import openai
except ImportError:
    sys.exit("the OpenAI SDK is missing from this Python: `make demo` sets it up")

facts = json.loads(os.environ["TOLLGATE_TOUR"])
gateway, keys = facts["gateway"], facts["keys"]
base_url = gateway + "/v1"
MODEL = "llama-70b"
HELLO = [{"role": "user", "content": "Say hello"}]
CHAT = {"model": MODEL, "messages": HELLO}
# The stand-in model server repeats what it was told.
SAID = "200 llama-70b heard: Say hello"

done = 0
broken = 0


def show(title, promised, exchange):
    """One exchange, a function that returns what came, and perhaps a second line about it."""
    global done, broken
    try:
        came, *details = exchange()
    except Exception as error:
        came, details = f"{type(error).__name__}: {error}", []
    done += 1
    kept = came == promised
    broken += not kept
    print(f"{done:3} {'ok ' if kept else 'NO '} {title:<46}  {came}")
    for detail in details:
        print(f"         {detail}")
    if not kept:
        print(f"         promised was: {promised}")


def client(key, **more):
    """A client as a customer makes it, without retries: they would only blur what is shown."""
    return openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=20, **more)


def chat(key, **more):
    """A good answer, in a line."""
    answer = client(key, **more).chat.completions.create(**CHAT)
    return f"200 {answer.choices[0].message.content}"


def raw(method, path, headers, body=None):
    """Status, headers and JSON of an exchange without an SDK."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", **headers}
    request = urllib.request.Request(gateway + path, data, headers, method=method)
    try:
        answer = urllib.request.urlopen(request, timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers, json.loads(answer.read())


def refused(call):
    """What the SDK raised, and the message a customer's program would log."""
    try:
        call()
    except openai.APIStatusError as error:
        assert error.request_id, "an error without x-request-id"
        return f"{error.status_code} {error.code} ({type(error).__name__})", error.body["message"]
    return ("no refusal",)


def mistyped(key):
    """One letter in the middle is wrong."""
    at = len(key) // 2
    return key[:at] + ("a" if key[at] != "a" else "b") + key[at + 1 :]


def answered():
    sdk = client(keys["good"])
    show("A good key", SAID, lambda: [chat(keys["good"])])

    def streamed():
        chunks = list(sdk.chat.completions.create(**CHAT, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        return [f"200 {text}", f"in {len(chunks)} chunks"]

    show("The same, streamed", SAID, streamed)

    def usage():
        chunks = sdk.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
        counts = list(chunks)[-1].usage
        return [f"{counts.prompt_tokens} tokens in, {counts.completion_tokens} out"]

    show("Streamed, with its usage", "2 tokens in, 4 out", usage)

    def embeddings():
        rows = sdk.embeddings.create(model="llama-embed", input=["one text", "another"]).data
        return [f"200, {len(rows)} vectors"]

    show("Embeddings of two texts", "200, 2 vectors", embeddings)

    def responses():
        return [f"200 {sdk.responses.create(model=MODEL, input='Say hello').output_text}"]

    show("The responses API", SAID, responses)

    def messages():
        headers = {"x-api-key": keys["good"], "anthropic-version": "2023-06-01"}
        status, _, answer = raw("POST", "/v1/messages", headers, {**CHAT, "max_tokens": 64})
        return [f"{status} {answer['content'][0]['text']}"]

    show("Anthropic's messages, with x-api-key", SAID, messages)

    def with_headers(*names):
        headers = {name: keys["good"] for name in names}
        status, _, answer = raw("POST", "/v1/chat/completions", headers, CHAT)
        return [f"{status} {answer['choices'][0]['message']['content']}"]

    show("Azure's way: the key in api-key", SAID, lambda: with_headers("api-key"))
    show("The same key in two headers", SAID, lambda: with_headers("api-key", "x-api-key"))
    show("The key's successor: both are good for a while", SAID, lambda: [chat(keys["rotated"])])
    show("A key for 127.0.0.0/8, used from there", SAID, lambda: [chat(keys["home"])])
    own = {"organization": "acme", "project": "search"}
    show("OpenAI-Organization and -Project are the key's", SAID, lambda: [chat(keys["good"], **own)])


def not_answered():
    def nothing(path):
        status, _, answer = raw("POST", path, {}, {**CHAT, "max_tokens": 64})
        error = answer["error"]
        return [f"{status} {error.get('code') or answer['type'] + ' ' + error['type']}", error["message"]]

    show("No key", "401 missing_api_key", lambda: nothing("/v1/chat/completions"))
    anthropic = "401 error authentication_error"
    show("The same for messages: Anthropic's shape", anthropic, lambda: nothing("/v1/messages"))

    invalid = "401 invalid_api_key (AuthenticationError)"
    show("A mistyped key: its checksum is wrong", invalid, lambda: refused(lambda: chat(mistyped(keys["good"]))))
    for title, part in [
        ("A key that nobody made", "unknown"),
        ("An expired key", "expired"),
        ("A key before its time", "early"),
        ("A revoked key", "revoked"),
    ]:
        show(title, invalid, lambda: refused(lambda: chat(keys[part])))
    stream = {**CHAT, "stream": True}
    show(
        "Asked for a stream: a plain error all the same",
        invalid,
        lambda: refused(lambda: client(keys["revoked"]).chat.completions.create(**stream)),
    )
    for title, part, code in [
        ("A frozen key", "frozen_key", "key_suspended"),
        ("A key of a frozen project", "frozen_project", "project_suspended"),
        ("A key of a frozen organization", "frozen_org", "organization_suspended"),
        ("A key for embeddings alone, used for chat", "embeddings_only", "insufficient_scope"),
        ("A key for another network", "elsewhere", "ip_not_allowed"),
    ]:
        show(title, f"403 {code} (PermissionDeniedError)", lambda: refused(lambda: chat(keys[part])))
    for what, other in [("organization", "globex"), ("project", "archive")]:
        show(
            f"OpenAI-{what.title()} names another",
            f"401 mismatched_{what} (AuthenticationError)",
            lambda: refused(lambda: chat(keys["good"], **{what: other})),
        )
    two = {"x-api-key": keys["other_org"]}
    show(
        "Two different keys in one request",
        "400 ambiguous_credentials (BadRequestError)",
        lambda: refused(lambda: chat(keys["good"], default_headers=two)),
    )
    show(
        "An endpoint that is not served",
        "404 unknown_url (NotFoundError)",
        lambda: refused(lambda: client(keys["good"]).fine_tuning.jobs.list()),
    )

    def get():
        status, headers, answer = raw("GET", "/v1/chat/completions", {"authorization": f"Bearer {keys['good']}"})
        return [f"{status} {answer['error']['code']}, allow: {headers['allow']}", answer["error"]["message"]]

    show("GET where POST is meant", "405 method_not_allowed, allow: POST", get)


def behind():
    """A client says that it is someone else; the model server tells what it was sent."""
    lies = {"x-tollgate-org": "globex", "x-tollgate-key-id": "root", "x-envoy-retry-on": "5xx"}

    def sent():
        create = client(keys["good"]).chat.completions.with_raw_response.create
        request_id = create(**CHAT, extra_headers=lies).headers["x-request-id"]
        with urllib.request.urlopen(f"{facts['models']}/seen?request_id={request_id}", timeout=20) as seen:
            (row,) = json.load(seen)
        return row["headers"]

    def identity():
        headers = dict(sent())
        return [" ".join(headers[f"x-tollgate-{part}"] for part in ["org", "project", "tier", "key-id"])]

    def leaks():
        credentials = ["authorization", "x-api-key", "api-key"]
        found = [
            f"{name}: {value}"
            for name, value in sent()
            if keys["good"] in value or name in credentials or value == lies.get(name)
        ]
        return [f"{found or 'nothing'}"]

    key_id = keys["good"].split("-")[2]
    show("Says x-tollgate-org: globex; the model sees", f"acme search pro {key_id}", identity)
    show("Of its key and its claims the model sees", "nothing", leaks)


def while_it_runs():
    def revocation():
        """The operator takes a key's row out of the file."""
        key, path = keys["leaver"], facts["key_auth"]
        before = chat(key)[:3]
        with open(path) as file:
            kept = [line for line in file if key.split("-")[2] not in line]
        with open(path + ".new", "w") as file:
            file.writelines(kept)
        os.replace(path + ".new", path)
        began = time.monotonic()
        after = ("no refusal",)
        while after[0] == "no refusal" and time.monotonic() - began < 10:
            after = refused(lambda: chat(key))
        return [f"{before}, then {after[0]}", f"refused {time.monotonic() - began:.2f} s after the file was replaced"]

    show("A key is taken out of the file", "200, then 401 invalid_api_key (AuthenticationError)", revocation)
    show("The other keys meanwhile", SAID, lambda: [chat(keys["good"])])

    def guessing():
        for guesses in range(100):
            came, message = refused(lambda: chat(keys["unknown"]))
            if not came.startswith("401"):
                break
        return [came, f"after {guesses} more tries: {message}"]

    show("Guessing keys, on and on", "429 rate_limit_exceeded (RateLimitError)", guessing)
    show("A good key from the same address", SAID, lambda: [chat(keys["good"])])


print(f"\nThe OpenAI SDK for Python {openai.__version__}, and plain HTTP, against {base_url}")
for heading, part in [
    ("Answered", answered),
    ("Refused", not_answered),
    ("What goes on to the model server", behind),
    ("While it runs", while_it_runs),
]:
    print(f"\n{heading}\n")
    part()
if broken:
    sys.exit(f"\n{done} exchanges, {broken} not as promised.")
print(f"\n{done} exchanges, all as promised.")
