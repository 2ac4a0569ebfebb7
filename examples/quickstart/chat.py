"""A first program. It takes the address and the key from the environment, as every OpenAI client does:

export OPENAI_BASE_URL=http://127.0.0.1:10000/v1
export OPENAI_API_KEY=sk-tg-...
"""

import openai

client = openai.OpenAI()
messages = [{"role": "user", "content": "Say hello"}]

try:
    for chunk in client.chat.completions.create(model="llama-70b", messages=messages, stream=True):
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()
except openai.APIStatusError as error:
    # `code` is for programs, the message for people, the request id for whoever operates the gateway.
    raise SystemExit(f"{error.code}: {error.body['message']} (request {error.request_id})") from None
