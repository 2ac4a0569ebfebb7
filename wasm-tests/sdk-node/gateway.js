// The gateway under test, and clients as customers make them.
//
// TOLLGATE_SDK is a JSON object:
//   gateway  http://127.0.0.1:PORT of the gateway
//   models   http://127.0.0.1:PORT of the model server behind it
//   keys     keys by the part they play; see src/stack/cast.rs of the harness

import assert from "node:assert/strict";
import { setTimeout as wait } from "node:timers/promises";

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

export const { gateway: GATEWAY, models: MODELS, keys: KEYS } = JSON.parse(process.env.TOLLGATE_SDK);

export const MODEL = "llama-70b";
// Of other endpoints.
export const [EMBED, GUARD, DRAW, SPEAK, LISTEN] = ["llama-embed", "llama-guard", "flux", "kokoro", "whisper-large"];
// Of the organization acme, and not of its project search.
export const HELD = "gpt-oss-120b";
export const CHAT = { model: MODEL, messages: [{ role: "user", content: "one two three" }] };
// The model server repeats what it was told and counts words.
export const SAID = "llama-70b heard: one two three";

/** An OpenAI client with the key that plays `part`. */
export function openai(part, more = {}) {
  return new OpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: KEYS[part], maxRetries: 0, timeout: 20_000, ...more });
}

/** An Anthropic client with the key that plays `part`. */
export function anthropic(part, more = {}) {
  return new Anthropic({ baseURL: GATEWAY, apiKey: KEYS[part], maxRetries: 0, timeout: 20_000, ...more });
}

/** A client that retries as the SDK does by itself, and the request ids of the answers that it got. */
export function retrying(make, part) {
  const answers = [];
  const counted = async (...request) => {
    const answer = await fetch(...request);
    answers.push(answer.headers.get("x-request-id"));
    return answer;
  };
  return { client: make(part, { maxRetries: 2, fetch: counted }), answers };
}

/** Asks the model server to answer in a certain way. */
export function fault(text) {
  return { headers: { "x-model-fault": text } };
}

/** What the model server has seen so far: of one request, or of all. */
export async function rows(requestId) {
  const answer = await fetch(`${MODELS}/seen${requestId ? `?request_id=${requestId}` : ""}`);
  return answer.json();
}

/** What `look` finds, once it finds something. */
export async function eventually(look) {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert.ok(performance.now() < deadline, `it did not come to this: ${look}`);
    await wait(5);
  }
}

/** What the model server saw of a request, once it has ended. */
export async function seen(requestId) {
  assert.ok(requestId, "an answer without its id");
  return eventually(async () => {
    const found = await rows(requestId);
    return found.every((row) => row.ending !== "running") && found;
  });
}

/** All that an iterable of the SDK yields. */
export async function all(iterable) {
  const items = [];
  for await (const item of await iterable) items.push(item);
  return items;
}

/** The text of a streamed chat. */
export function text(chunks) {
  return chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
}

/** The error that a call ends with. */
export async function caught(promise) {
  return promise.then(
    () => assert.fail("it was answered"),
    (error) => error,
  );
}

/** No key's secret half is in what a program logs of an error. */
export function tellsNoSecret(error) {
  for (const key of Object.values(KEYS)) {
    const secret = key.slice(key.lastIndexOf("-") + 1);
    for (const logged of [String(error), error.stack, JSON.stringify(error)]) assert.ok(!logged.includes(secret));
  }
}

/** A refusal of the gateway: every field that a program looks at, and nothing of it at the model server. */
export async function refused(error, kind, status, code, begins, { type = "invalid_request_error", param = null } = {}) {
  assert.equal(error.constructor, kind, error);
  assert.deepEqual([error.status, error.code, error.type, error.param], [status, code, type, param]);
  assert.ok(error.error.message.startsWith(begins), error.error.message);
  assert.deepEqual(Object.keys(error.error).sort(), ["code", "message", "param", "type"]);
  assert.equal(error.headers.get("content-type"), "application/json");
  assert.match(error.requestID, /^[0-9a-f-]{36}$/);
  tellsNoSecret(error);
  assert.deepEqual(await seen(error.requestID), [], "a refused request reached the model server");
}
