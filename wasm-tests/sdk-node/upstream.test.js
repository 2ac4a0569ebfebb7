// What a model server answers or fails at, as the SDK tells it; and a client that leaves.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import { APIUserAbortError, InternalServerError, RateLimitError } from "openai";

import { caught, CHAT, eventually, fault, openai, retrying, rows, SAID, seen } from "./gateway.js";

const good = openai("good");
const chat = (client, how) => client.chat.completions.create(CHAT, fault(how));
const stream = (how) => good.chat.completions.create({ ...CHAT, stream: true }, fault(how));

test("its own error passes unchanged", async () => {
  const error = await caught(chat(good, "status=429, retry-after=7"));
  assert.equal(error.constructor, RateLimitError);
  assert.deepEqual([error.status, error.type, error.code], [429, "requests", null]);
  assert.equal(error.error.message, "The model server was told to fail.");
  assert.equal(error.headers.get("retry-after"), "7");
  assert.match(error.requestID, /^[0-9a-f-]{36}$/);
});

test("the SDK retries what waiting can mend, each time under an id of its own", async () => {
  const { client, answers } = retrying(openai, "good");
  const error = await caught(chat(client, "status=429"));
  assert.equal(error.constructor, RateLimitError);
  assert.equal(new Set(answers).size, 3);
  for (const id of answers) assert.equal((await seen(id)).length, 1);
});

test("a 500 is not sent again by the gateway: its tokens may have been spent", async () => {
  const error = await caught(chat(good, "status=500"));
  assert.equal(error.constructor, InternalServerError);
  assert.equal(error.type, "server_error");
  assert.equal((await seen(error.requestID)).length, 1);
});

test("a busy model server is asked again by the gateway: 503 says that nothing was begun", async () => {
  const error = await caught(chat(good, "status=503"));
  assert.equal(error.constructor, InternalServerError);
  assert.equal((await seen(error.requestID)).length, 3);
});

for (const how of ["reset", "close"]) {
  test(`a connection lost before the answer: ${how}`, async () => {
    const error = await caught(chat(good, how));
    assert.equal(error.constructor, InternalServerError);
    const fields = [error.status, error.type, error.code, error.param];
    assert.deepEqual(fields, [502, "server_error", "upstream_error", null]);
    assert.ok(error.requestID);
  });
}

for (const how of ["cut=3", "tear=3"]) {
  test(`a stream that breaks is no end: ${how}`, async () => {
    // The SDK throws: a customer does not take half an answer for a whole one.
    let text = "";
    const read = async () => {
      for await (const chunk of await stream(how)) text += chunk.choices[0].delta.content ?? "";
    };
    const error = await caught(read());
    assert.equal(error.message, "terminated");
    assert.ok(["llama-70b", "llama-70b heard:"].includes(text), text);
  });
}

/** The model server stops working for nobody. */
async function noticed(requestId) {
  const [row] = await seen(requestId);
  assert.equal(row.ending, "aborted");
  assert.ok(row.output_tokens < 100_000);
}

const ENDLESS = "pace=20ms, tokens=100000";

test("a client that stops reading is noticed upstream", async () => {
  const { data, request_id } = await stream(ENDLESS).withResponse();
  for await (const _ of data) break;
  await noticed(request_id);
});

test("a client that aborts is noticed upstream", async () => {
  const { data, request_id } = await stream(ENDLESS).withResponse();
  let chunks = 0;
  for await (const _ of data) if ((chunks += 1) === 3) data.controller.abort();
  assert.ok(chunks >= 3);
  await noticed(request_id);
});

test("so is one that aborts before the answer", async () => {
  const mark = randomUUID();
  const mine = async (ending) => (await rows()).find((row) => row.ending === ending && JSON.stringify(row.headers).includes(mark));
  const stop = new AbortController();
  const how = { headers: { "x-model-fault": "first-byte=20s", "x-mark": mark }, signal: stop.signal };
  const error = caught(good.chat.completions.create(CHAT, how));
  await eventually(() => mine("running"));
  stop.abort();
  assert.equal((await error).constructor, APIUserAbortError);
  assert.equal((await eventually(() => mine("aborted"))).output_tokens, 0);
});

test("a slow first byte is waited for", async () => {
  const answer = await chat(good, "first-byte=1s");
  assert.equal(answer.choices[0].message.content, SAID);
});
