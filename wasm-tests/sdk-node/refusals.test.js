// Refusals: the exception a customer's program catches, and the fields it looks at.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  APIError, AuthenticationError, BadRequestError, NotFoundError, PermissionDeniedError, toFile,
} from "openai";

import { caught, CHAT, EMBED, KEYS, MODEL, openai, refused, retrying } from "./gateway.js";

// One letter of the good key is another one.
const at = KEYS.good.length >> 1;
KEYS.mistyped = KEYS.good.slice(0, at) + (KEYS.good[at] === "a" ? "b" : "a") + KEYS.good.slice(at + 1);

const INVALID = [AuthenticationError, 401, "invalid_api_key", "Incorrect API key provided: sk-tg-"];
const SCOPE = [PermissionDeniedError, 403, "insufficient_scope", "This API key has insufficient permissions"];

// By the part that a key plays: class, status, code, how the message begins.
const BY_KEY = {
  unknown: INVALID,
  expired: INVALID,
  early: INVALID,
  revoked: INVALID,
  mistyped: INVALID,
  frozen_key: [PermissionDeniedError, 403, "key_suspended", "This API key has been suspended"],
  frozen_project: [PermissionDeniedError, 403, "project_suspended", "This project has been suspended"],
  frozen_org: [PermissionDeniedError, 403, "organization_suspended", "Your organization has been suspended"],
  embeddings_only: SCOPE,
  elsewhere: [PermissionDeniedError, 403, "ip_not_allowed", "This API key may not be used from your network address"],
};

for (const [part, wanted] of Object.entries(BY_KEY)) {
  for (const stream of [false, true]) {
    test(`the key ${part}${stream ? ", streamed" : ""}`, async () => {
      await refused(await caught(openai(part).chat.completions.create({ ...CHAT, stream })), ...wanted);
    });
  }

  test(`the SDK does not retry the key ${part}: waiting cannot mend it`, async () => {
    const { client, answers } = retrying(openai, part);
    const error = await caught(client.chat.completions.create(CHAT));
    assert.equal(error.constructor, wanted[0]);
    assert.deepEqual(answers, [error.requestID]);
  });
}

test("a key in a message is masked: its owner knows it again, nobody else can use it", async () => {
  const { error } = await caught(openai("unknown").models.list());
  const [shown] = error.message.match(/sk-tg-\S*\*\*\*\w{2}/);
  const [begin, end] = shown.split("***");
  assert.ok(KEYS.unknown.startsWith(begin) && KEYS.unknown.endsWith(end), shown);
  assert.ok(shown.length < KEYS.unknown.length / 2, shown);
});

// What else a request of the good key can get wrong.
const BY_HEADER = [
  [{ "OpenAI-Organization": "globex" }, AuthenticationError, 401, "mismatched_organization", "The OpenAI-Organization header does not match"],
  [{ "OpenAI-Project": "archive" }, AuthenticationError, 401, "mismatched_project", "The OpenAI-Project header does not match"],
  [{ "x-api-key": KEYS.other_org }, BadRequestError, 400, "ambiguous_credentials", "The request carries two different API keys"],
  [{ Authorization: null }, AuthenticationError, 401, "missing_api_key", "No API key was given"],
];

for (const [headers, ...wanted] of BY_HEADER) {
  test(`a header: ${wanted[2]}`, async () => {
    await refused(await caught(openai("good").chat.completions.create(CHAT, { headers })), ...wanted);
  });
}

const upload = () => toFile(Buffer.concat([Buffer.from("RIFF"), Buffer.alloc(2000)]), "file.bin");

// By the scope that is needed.
const ENDPOINTS = [
  ["chat", (client) => client.chat.completions.create(CHAT)],
  ["chat", (client) => client.completions.create({ model: MODEL, prompt: "one" })],
  ["chat", (client) => client.responses.create({ model: MODEL, input: "one" })],
  ["moderations", (client) => client.moderations.create({ model: MODEL, input: "one" })],
  ["images", (client) => client.images.generate({ model: MODEL, prompt: "one" })],
  ["images", async (client) => client.images.edit({ model: MODEL, prompt: "one", image: await upload() })],
  ["audio", (client) => client.audio.speech.create({ model: MODEL, input: "one", voice: "alloy" })],
  ["audio", async (client) => client.audio.transcriptions.create({ model: MODEL, file: await upload() })],
  ["audio", async (client) => client.audio.translations.create({ model: MODEL, file: await upload() })],
  ["models", (client) => client.models.list()],
  ["models", (client) => client.models.retrieve("llama-8b")],
];

for (const [scope, call] of ENDPOINTS) {
  test(`a scope is needed for each endpoint: ${scope} for ${call}`, async () => {
    const error = await caught(call(openai("embeddings_only")));
    await refused(error, ...SCOPE);
    assert.ok(error.error.message.endsWith(`Missing scope: ${scope}.`), error.error.message);
  });

  test(`no endpoint is open: ${call}`, async () => {
    await refused(await caught(call(openai("unknown"))), ...INVALID);
  });
}

test("the scope that it has is enough", async () => {
  const answer = await openai("embeddings_only").embeddings.create({ model: EMBED, input: "one" });
  assert.equal(answer.data.length, 1);
});

test("an endpoint that is not served", async () => {
  const error = await caught(openai("good").fineTuning.jobs.list());
  await refused(error, NotFoundError, 404, "unknown_url", "Unknown URL: GET /v1/fine_tuning/jobs");
});

test("too large a body", async () => {
  const error = await caught(openai("good").embeddings.create({ model: EMBED, input: "x".repeat(34_000_000) }));
  await refused(error, APIError, 413, "request_too_large", "Request body too large");
});
