// Anthropic's SDK on /v1/messages: its own events, its own errors.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  AuthenticationError, BadRequestError, InternalServerError, NotFoundError, PermissionDeniedError,
} from "@anthropic-ai/sdk";

import { all, anthropic, caught, fault, HELD, KEYS, MODEL, retrying, SAID, seen, tellsNoSecret } from "./gateway.js";

const HELLO = { model: MODEL, max_tokens: 64, messages: [{ role: "user", content: "one two three" }] };
const good = anthropic("good");

test("messages", async () => {
  const answer = await good.messages.create(HELLO);
  assert.equal(answer.content[0].text, SAID);
  assert.deepEqual([answer.usage.input_tokens, answer.usage.output_tokens], [3, 5]);
  assert.equal(answer.stop_reason, "end_turn");
});

test("messages by the SDK's stream helper", async () => {
  const stream = good.messages.stream(HELLO);
  assert.equal(await stream.finalText(), SAID);
  const { usage } = await stream.finalMessage();
  assert.deepEqual([usage.input_tokens, usage.output_tokens], [3, 5]);
});

test("events in their own types", async () => {
  const types = (await all(good.messages.create({ ...HELLO, stream: true }))).map((event) => event.type);
  assert.deepEqual([types[0], types.at(-1)], ["message_start", "message_stop"]);
  assert.equal(types.filter((type) => type === "content_block_delta").length, 5);
});

test("a key as a bearer token", async () => {
  const client = anthropic("good", { apiKey: null, authToken: KEYS.good });
  assert.equal((await client.messages.create(HELLO)).content[0].text, SAID);
});

test("the key does not reach the model server", async () => {
  const { response } = await good.messages.create(HELLO).withResponse();
  const [row] = await seen(response.headers.get("x-request-id"));
  const headers = Object.fromEntries(row.headers);
  assert.ok(!("x-api-key" in headers) && !JSON.stringify(headers).includes(KEYS.good));
  assert.ok(headers["anthropic-version"]);
});

/** A refusal of the gateway, in Anthropic's shape. */
function refused(error, kind, status, type) {
  assert.equal(error.constructor, kind, error);
  assert.deepEqual([error.status, error.type], [status, type]);
  assert.deepEqual(Object.keys(error.error).sort(), ["error", "request_id", "type"]);
  assert.equal(error.error.type, "error");
  assert.deepEqual(Object.keys(error.error.error).sort(), ["message", "type"]);
  assert.equal(error.error.request_id, error.headers.get("x-request-id"));
  assert.equal(error.requestID, error.error.request_id);
  tellsNoSecret(error);
}

const UNAUTHENTICATED = [AuthenticationError, 401, "authentication_error"];
const DENIED = [PermissionDeniedError, 403, "permission_error"];
const BY_KEY = {
  unknown: UNAUTHENTICATED,
  expired: UNAUTHENTICATED,
  early: UNAUTHENTICATED,
  revoked: UNAUTHENTICATED,
  frozen_key: DENIED,
  frozen_project: DENIED,
  frozen_org: DENIED,
  embeddings_only: DENIED,
  elsewhere: DENIED,
};

for (const [part, wanted] of Object.entries(BY_KEY)) {
  test(`the key ${part}: refused, and the SDK does not retry`, async () => {
    for (const stream of [false, true]) {
      const { client, answers } = retrying(anthropic, part);
      refused(await caught(client.messages.create({ ...HELLO, stream })), ...wanted);
      assert.equal(answers.length, 1);
    }
  });
}

test("a model that is not there, and one that this project may not use", async () => {
  const ask = (model) => caught(good.messages.create({ ...HELLO, model }));
  refused(await ask("gpt-5"), NotFoundError, 404, "not_found_error");
  refused(await ask(HELD), PermissionDeniedError, 403, "permission_error");
});

test("two keys", async () => {
  const error = await caught(good.messages.create(HELLO, { headers: { "api-key": KEYS.other_org } }));
  refused(error, BadRequestError, 400, "invalid_request_error");
});

test("a connection lost before the answer", async () => {
  refused(await caught(good.messages.create(HELLO, fault("reset"))), InternalServerError, 502, "api_error");
});
