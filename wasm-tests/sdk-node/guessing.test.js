// Guessing keys gets slow, and only guessing. On a gateway of its own with the limit as shipped: 30 a minute.

import assert from "node:assert/strict";
import { test } from "node:test";

import { AuthenticationError, RateLimitError } from "openai";

import { caught, CHAT, openai, refused, retrying, SAID } from "./gateway.js";

test("guessing is limited, and nobody else", async () => {
  const { client, answers } = retrying(openai, "unknown");
  let error;
  do {
    error = await caught(client.chat.completions.create(CHAT));
  } while (error instanceof AuthenticationError && answers.length < 60);
  // One more is granted every two seconds.
  assert.ok(answers.length > 30 && answers.length <= 60, String(answers.length));
  await refused(error, RateLimitError, 429, "rate_limit_exceeded", "", { type: "requests" });
  assert.equal(error.headers.get("x-should-retry"), "false");
  assert.equal(error.headers.get("retry-after"), null);
  assert.equal(answers.indexOf(error.requestID), answers.length - 1, "the SDK does not retry what waiting cannot mend");
  assert.equal((await openai("good").chat.completions.create(CHAT)).choices[0].message.content, SAID);
});
