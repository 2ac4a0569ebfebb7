// Good answers: each API through the gateway, as the SDK gives them, and what went on to the model server.

import assert from "node:assert/strict";
import { test } from "node:test";

import { toFile } from "openai";

import {
  all, CHAT, DRAW, EMBED, fault, GUARD, KEYS, LISTEN, MODEL, openai, SAID, seen, SPEAK, text,
} from "./gateway.js";

const good = openai("good");
const talk = (bytes) => toFile(Buffer.concat([Buffer.from("RIFF"), Buffer.alloc(bytes)]), "talk.wav", { type: "audio/wav" });

test("chat", async () => {
  const answer = await good.chat.completions.create(CHAT);
  assert.equal(answer.choices[0].message.content, SAID);
  assert.deepEqual([answer.usage.prompt_tokens, answer.usage.completion_tokens], [3, 5]);
});

test("chat, streamed: every delta, and no usage that was not asked for", async () => {
  const chunks = await all(good.chat.completions.create({ ...CHAT, stream: true }));
  assert.equal(text(chunks), SAID);
  assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
  assert.ok(chunks.every((chunk) => !chunk.usage && chunk.choices.length === 1));
});

test("chat, streamed with usage", async () => {
  const chunks = await all(good.chat.completions.create({ ...CHAT, stream: true, stream_options: { include_usage: true } }));
  const last = chunks.pop();
  assert.equal(text(chunks), SAID);
  assert.deepEqual(last.choices, []);
  assert.deepEqual([last.usage.prompt_tokens, last.usage.completion_tokens], [3, 5]);
  assert.ok(chunks.every((chunk) => chunk.usage === null));
});

test("chat by the SDK's stream helper", async () => {
  assert.equal(await good.chat.completions.stream(CHAT).finalContent(), SAID);
});

for (const how of ["chunk=1", "chunk=7", "chunk=random:3", "batch=1000"]) {
  test(`a stream survives any chunking: ${how}`, async () => {
    const chat = { model: MODEL, messages: [{ role: "user", content: "Grüß Gott 東京 🚀" }], stream: true };
    const chunks = await all(good.chat.completions.create(chat, fault(how)));
    assert.equal(text(chunks), "llama-70b heard: Grüß Gott 東京 🚀");
  });
}

test("events come when they are sent", async () => {
  // Twelve events 100 ms apart: held back to the end, they would come at once.
  const stream = await good.chat.completions.create({ ...CHAT, stream: true }, fault("pace=100ms, tokens=9"));
  const times = [];
  for await (const _ of stream) times.push(performance.now());
  assert.equal(times.length, 11);
  assert.ok(times.at(-1) - times[0] > 500, String(times));
});

test("completions", async () => {
  const ask = { model: MODEL, prompt: "one two three" };
  assert.equal((await good.completions.create(ask)).choices[0].text, SAID);
  const chunks = await all(good.completions.create({ ...ask, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), SAID);
});

test("responses", async () => {
  const answer = await good.responses.create({ model: MODEL, input: "one two three", instructions: "be brief" });
  assert.equal(answer.output_text, SAID);
  assert.deepEqual([answer.usage.input_tokens, answer.usage.output_tokens], [5, 5]);
});

test("responses, streamed", async () => {
  const events = await all(good.responses.create({ model: MODEL, input: "one two three", stream: true }));
  const deltas = events.filter((event) => event.type === "response.output_text.delta");
  assert.equal(deltas.map((event) => event.delta).join(""), SAID);
  assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
  assert.equal(events.at(-1).type, "response.completed");
  assert.equal(events.at(-1).response.usage.output_tokens, 5);
});

test("responses by the SDK's stream helper", async () => {
  const answer = await good.responses.stream({ model: MODEL, input: "one two three" }).finalResponse();
  assert.equal(answer.output_text, SAID);
});

// Left out, the SDK asks for base64 and makes numbers of it.
for (const encoding_format of ["float", "base64", undefined]) {
  test(`embeddings, encoding ${encoding_format}`, async () => {
    const answer = await good.embeddings.create({ model: EMBED, input: ["one two", "three"], encoding_format });
    assert.equal(answer.usage.prompt_tokens, 3);
    const kinds = answer.data.map((row) => (typeof row.embedding === "string" ? "base64" : row.embedding.length));
    assert.deepEqual(kinds, encoding_format === "base64" ? ["base64", "base64"] : [16, 16]);
  });
}

test("moderations", async () => {
  const answer = await good.moderations.create({ model: GUARD, input: ["fine", "please flag me"] });
  assert.equal(answer.results.length, 2);
  assert.ok(answer.results[0].flagged && answer.results[0].categories.violence);
});

test("images", async () => {
  const answer = await good.images.generate({ model: DRAW, prompt: "a cat", n: 2 });
  assert.equal(answer.data.filter((image) => image.b64_json).length, 2);
  const events = await all(good.images.generate({ model: DRAW, prompt: "a cat", stream: true, partial_images: 1 }));
  assert.deepEqual(
    events.map((event) => event.type),
    ["image_generation.partial_image", "image_generation.completed"],
  );
});

test("an image is edited by upload", async () => {
  const picture = Buffer.concat([Buffer.from("\x89PNG", "latin1"), Buffer.alloc(100_000)]);
  const image = await toFile(picture, "cat.png", { type: "image/png" });
  const answer = await good.images.edit({ model: DRAW, prompt: "a hat on it", image });
  assert.ok(answer.data[0].b64_json);
  assert.equal(answer.usage.input_tokens, 101 + 4);
});

test("speech", async () => {
  const answer = await good.audio.speech.create({ model: SPEAK, input: "one two", voice: "alloy" });
  assert.equal(answer.headers.get("content-type"), "audio/mpeg");
  assert.equal((await answer.arrayBuffer()).byteLength, 4 * 128);
});

// The model server counts a token for each thousand bytes that arrived.
for (const size of [0, 1_000, 3_000_000, 30_000_000]) {
  test(`sound is uploaded: ${size} bytes`, async () => {
    const answer = await good.audio.transcriptions.create({ model: LISTEN, file: await talk(size), language: "de" });
    assert.equal(answer.text, "whisper-large heard:");
    assert.equal(answer.usage.input_tokens, Math.ceil((size + 4) / 1000));
  });
}

test("a transcription is streamed", async () => {
  const ask = { model: LISTEN, file: await talk(0), prompt: "one two three", stream: true };
  const events = await all(good.audio.transcriptions.create(ask));
  const deltas = events.filter((event) => event.type === "transcript.text.delta");
  assert.equal(deltas.map((event) => event.delta).join(""), "whisper-large heard: one two three");
  assert.equal(events.at(-1).type, "transcript.text.done");
});

test("a translation", async () => {
  const answer = await good.audio.translations.create({ model: LISTEN, file: await talk(0) });
  assert.equal(answer.text, "whisper-large heard:");
});

for (const part of ["rotated", "home", "other_org"]) {
  test(`another good key: ${part}`, async () => {
    assert.equal((await openai(part).chat.completions.create(CHAT)).choices[0].message.content, SAID);
  });
}

test("the key's own organization and project may be named", async () => {
  const client = openai("good", { organization: "acme", project: "search" });
  assert.equal((await client.chat.completions.create(CHAT)).choices[0].message.content, SAID);
});

test("Azure's header", async () => {
  const headers = { Authorization: null, "api-key": KEYS.good };
  const answer = await openai("unknown").chat.completions.create(CHAT, { headers });
  assert.equal(answer.choices[0].message.content, SAID);
});

test("what the model server sees: the gateway's id and identity, no credential", async () => {
  const lies = {
    "x-request-id": "mine",
    "x-tollgate-org": "globex",
    "x-tollgate-tier": "unlimited",
    "x-envoy-upstream-rq-timeout-ms": "1",
    "api-key": KEYS.good,
    "x-api-key": KEYS.good,
  };
  const answer = await good.chat.completions.create(CHAT, { headers: lies });
  assert.match(answer._request_id, /^[0-9a-f-]{36}$/);
  const [row, ...more] = await seen(answer._request_id);
  assert.deepEqual(more, []);
  const headers = Object.fromEntries(row.headers);
  assert.equal(Object.keys(headers).length, row.headers.length, "a header came twice");
  const identity = ["org", "project", "tier", "key-id"].map((name) => headers[`x-tollgate-${name}`]);
  assert.deepEqual(identity, ["acme", "search", "pro", KEYS.good.split("-")[2]]);
  assert.ok(!JSON.stringify(headers).includes(KEYS.good));
  for (const name of ["authorization", "api-key", "x-api-key", "x-envoy-upstream-rq-timeout-ms"]) {
    assert.ok(!(name in headers), name);
  }
});

test("answers carry OpenAI's headers, and who served", async () => {
  const { data, response, request_id } = await good.chat.completions.create(CHAT).withResponse();
  assert.equal(data.choices[0].message.content, SAID);
  const header = (name) => response.headers.get(name);
  assert.equal(header("openai-organization"), "acme");
  assert.equal(header("openai-version"), "2020-10-01");
  assert.match(header("openai-processing-ms"), /^\d+$/);
  assert.equal(header("x-request-id"), request_id);
  assert.equal(header("x-tollgate-model"), MODEL);
  assert.equal(header("x-tollgate-route"), "primary");
});
