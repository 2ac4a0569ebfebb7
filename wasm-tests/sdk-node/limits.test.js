// Limits as the SDKs meet them: they wait as they are told and succeed, and don't where waiting can't mend it. On a
// gateway of its own, whose limits are in tests/support/limits.rs of the harness. Each test has a key of its own.

import assert from "node:assert/strict";
import { test } from "node:test";

import { RateLimitError as AnthropicRateLimitError } from "@anthropic-ai/sdk";
import { RateLimitError } from "openai";

import { anthropic, caught, CHAT, EMBED, fault, MODEL, openai, refused, SAID } from "./gateway.js";

const HELLO = { ...CHAT, max_tokens: 64 };
const chat = (client, more = {}) => client.chat.completions.create({ ...CHAT, ...more });
const embedding = (client) => client.embeddings.create({ model: EMBED, input: "one" });
/** A completion of so many tokens, none of which is given back. */
const completion = (client, tokens) =>
  client.completions.create({ model: MODEL, prompt: "one", max_tokens: tokens }, fault(`tokens=${tokens}`));

/** A client that retries as the SDK does by itself, and its answers with the time of each request and answer. */
function patient(make, part) {
  const answers = [];
  const timed = async (...request) => {
    const sent = performance.now();
    const answer = await fetch(...request);
    answers.push({ sent, status: answer.status, headers: answer.headers, told: performance.now() });
    return answer;
  };
  return { client: make(part, { maxRetries: 2, fetch: timed }), answers };
}

/** One refusal, and one answer no earlier than it said. Timers may be a millisecond early. */
function waitedAsTold([first, second, ...more]) {
  assert.deepEqual([first.status, second.status, more.length], [429, 200, 0]);
  assert.ok(second.sent - first.told >= Number(first.headers.get("retry-after-ms")) - 1);
}

function futile(headers) {
  assert.equal(headers.get("x-should-retry"), "false");
  assert.deepEqual([headers.get("retry-after"), headers.get("retry-after-ms")], [null, null]);
}

for (const [part, stream] of [["good", false], ["rotated", true]]) {
  test(`a requests limit${stream ? ", streamed" : ""}`, async () => {
    const client = openai(part);
    const { headers } = await chat(client, { stream }).asResponse();
    const names = ["limit", "remaining", "reset"].map((name) => `x-ratelimit-${name}-requests`);
    assert.deepEqual(names.map((name) => headers.get(name)), ["20", "0", "3s"]);
    assert.equal(headers.get("ratelimit-policy"), '"chat-rpm";q=20;w=60');
    const error = await caught(chat(client, { stream }));
    const begins = "Rate limit reached for llama-70b for key ";
    await refused(error, RateLimitError, 429, "rate_limit_exceeded", begins, { type: "requests" });
    const numbers = "on requests per min (RPM): Limit 20 (at once 1), Used 1, Requested 1. Please try again in ";
    assert.ok(error.error.message.includes(numbers), error.error.message);
    const [millis, seconds] = ["retry-after-ms", "retry-after"].map((name) => Number(error.headers.get(name)));
    assert.ok(0 < millis && millis <= seconds * 1000 && seconds <= 3, `${millis} ms, ${seconds} s`);
    assert.equal(error.headers.get("x-should-retry"), null);
  });
}

test("the SDK waits and succeeds", async () => {
  const { client, answers } = patient(openai, "leaver");
  for (let i = 0; i < 2; i++) assert.equal((await chat(client)).choices[0].message.content, SAID);
  waitedAsTold(answers.slice(1));
});

test("a token limit", async () => {
  const { client, answers } = patient(openai, "good");
  await completion(client, 180);
  assert.equal(answers[0].headers.get("x-ratelimit-limit-tokens"), "6000");
  assert.ok(Number(answers[0].headers.get("x-ratelimit-remaining-tokens")) <= 20);
  await completion(client, 180);
  waitedAsTold(answers.slice(1));
});

test("what can never fit is not sent again", async () => {
  const { client, answers } = patient(openai, "home");
  const error = await caught(completion(client, 1000));
  const begins = "Request too large for llama-70b for key ";
  await refused(error, RateLimitError, 429, "request_too_large_for_limit", begins, { type: "tokens" });
  futile(error.headers);
  assert.equal(answers.length, 1);
  await completion(client, 100);
});

test("a spent day is told at once", async () => {
  const { client, answers } = patient(openai, "good");
  await embedding(client);
  const error = await caught(embedding(client));
  const begins = "Quota spent for llama-embed for key ";
  await refused(error, RateLimitError, 429, "insufficient_quota", begins, { type: "insufficient_quota" });
  futile(error.headers);
  assert.equal(answers.length, 2);
  await embedding(openai("rotated"));
});

test("Anthropic's", async () => {
  const client = anthropic("good");
  const { headers } = await client.messages.create(HELLO).asResponse();
  const get = (name) => headers.get(`anthropic-ratelimit-${name}`);
  assert.deepEqual([get("requests-limit"), get("requests-remaining"), get("tokens-limit")], ["20", "0", "100000"]);
  const left = Date.parse(get("requests-reset")) - Date.now();
  assert.ok(0 <= left && left <= 5000, `${left} ms`);
  const error = await caught(client.messages.create(HELLO));
  assert.equal(error.constructor, AnthropicRateLimitError, error);
  assert.deepEqual([error.status, error.type, error.error.type], [429, "rate_limit_error", "error"]);
  assert.deepEqual(Object.keys(error.error.error).sort(), ["message", "type"]);
  assert.equal(error.error.request_id, error.headers.get("x-request-id"));
  assert.ok(Number(error.headers.get("retry-after")) <= 3);
});

test("Anthropic's SDK waits and succeeds", async () => {
  const { client, answers } = patient(anthropic, "rotated");
  for (let i = 0; i < 2; i++) assert.equal((await client.messages.create(HELLO)).content[0].text, SAID);
  waitedAsTold(answers.slice(1));
});
