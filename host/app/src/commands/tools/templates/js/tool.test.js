import assert from "node:assert/strict";
import { test } from "node:test";

import { toolProvider } from "./tool.js";

// `fetch` as Graph answers it.
function answering(body) {
  globalThis.fetch = async () => new Response(JSON.stringify(body));
}

test("each line is a subject", async () => {
  answering({ value: [{ subject: "Hello" }, { subject: "Lunch?" }] });
  assert.deepEqual(await toolProvider.call("list_mail", "{}", {}), { tag: "text", val: "Hello\nLunch?" });
});

test("a refusal of Graph is an error of the tool", async () => {
  answering({ error: { code: "ErrorAccessDenied", message: "Access is denied." } });
  await assert.rejects(toolProvider.call("list_mail", "{}", {}), { tag: "failed", val: "Access is denied." });
});

test("a request without an answer is an error of the tool", async () => {
  globalThis.fetch = async () => { throw new TypeError("denied"); };
  await assert.rejects(toolProvider.call("list_mail", "{}", {}), { tag: "failed", val: "Graph does not answer: denied" });
});
