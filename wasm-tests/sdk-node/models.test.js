// Which models a key may use, and what the SDK says where it may not.

import assert from "node:assert/strict";
import { test } from "node:test";

import { BadRequestError, NotFoundError, PermissionDeniedError } from "openai";

import {
  all, caught, CHAT, DRAW, EMBED, GUARD, HELD, LISTEN, MODEL, openai, refused, SPEAK,
} from "./gateway.js";

const good = openai("good");
const chat = (client, model) => client.chat.completions.create({ ...CHAT, model });
const absent = (model) => `The model \`${model}\` does not exist or you do not have access to it.`;
const named = { param: "model" };

test("a key is shown what it may use, of whatever endpoint", async () => {
  const ids = async (part) => (await all(openai(part).models.list())).map((model) => model.id);
  const mine = await ids("good");
  assert.deepEqual(mine, [MODEL, "llama-8b", EMBED, GUARD, DRAW, SPEAK, LISTEN].sort());
  assert.deepEqual(await ids("other_org"), mine.filter((id) => id.startsWith("llama-")));
});

test("one of them", async () => {
  const model = await good.models.retrieve(MODEL);
  assert.deepEqual([model.id, model.object, model.owned_by], [MODEL, "model", "meta"]);
});

for (const name of ["gpt-5", "llama-70B", "../llama-70b", "LLAMA-70B"]) {
  test(`a model that is not there: ${name}`, async () => {
    await refused(await caught(chat(good, name)), NotFoundError, 404, "model_not_found", absent(name), named);
  });
}

test("a model that is not there, asked for by its name", async () => {
  const error = await caught(good.models.retrieve("gpt-5"));
  await refused(error, NotFoundError, 404, "model_not_found", absent("gpt-5"), named);
});

test("one that others may use is not there either", async () => {
  const theirs = openai("other_org");
  await refused(await caught(chat(theirs, HELD)), NotFoundError, 404, "model_not_found", absent(HELD), named);
  await refused(await caught(theirs.models.retrieve(HELD)), NotFoundError, 404, "model_not_found", absent(HELD), named);
});

test("one that the organization may use and this project not", async () => {
  const message = `Project \`search\` does not have access to model \`${HELD}\`.`;
  await refused(await caught(chat(good, HELD)), PermissionDeniedError, 403, "model_not_found", message, named);
});

test("no model", async () => {
  const error = await caught(good.chat.completions.create({ messages: [] }));
  await refused(error, BadRequestError, 400, "missing_model", "The request names no model: `model` is missing.", named);
});

// What is sent, and what the SDK calls the faulty part.
const MALFORMED = [
  ["hello", null],
  [`{"model": "${MODEL}", "messages": [`, "messages"],
  [`{"model": 70, "messages": []}`, "model"],
  [`{"model": "${MODEL}", "messages": [], "stream": "yes"}`, "stream"],
];

for (const [body, param] of MALFORMED) {
  test(`an invalid body: ${body}`, async () => {
    const headers = { "content-type": "application/json" };
    const error = await caught(good.post("/chat/completions", { body, headers }));
    await refused(error, BadRequestError, 400, "invalid_json", "The body is not valid JSON", { param });
    assert.match(error.error.message, /at line 1 column \d+\.$/);
  });
}

test("a model at another endpoint", async () => {
  const error = await caught(good.embeddings.create({ model: MODEL, input: "one" }));
  const message = `The model \`${MODEL}\` is not served at this endpoint.`;
  await refused(error, BadRequestError, 400, "unsupported_parameter", message, named);
});

test("far more than its window holds", async () => {
  const error = await caught(good.completions.create({ model: MODEL, prompt: "x".repeat(3_000_000) }));
  await refused(error, BadRequestError, 400, "context_length_exceeded", "", { param: "prompt" });
});

test("by an alias", async () => {
  const { response } = await chat(good, "llama-3.3-70b").withResponse();
  assert.equal(response.headers.get("x-tollgate-model"), MODEL);
  assert.equal(response.headers.get("x-tollgate-route"), "primary");
});
