// OpenAI's SDK, Chat Completions.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

import { BREAKS, drain, failure, PIXEL, SAID, SCHEMA, start, UPSTREAMS } from "./rig.js";

const rig = await start();
const client = connect("sk-all");
const HELLO = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "Hello there" },
];
const PARALLEL = [{ role: "user", content: "What is the weather, in parallel?" }];
const NAMES = ["get_weather", "get_time"];
const TOOLS = NAMES.map((name) => ({ type: "function", function: { name, description: `Does ${name}`, parameters: SCHEMA } }));
const City = z.object({ city: z.string() });

function connect(apiKey) {
  return new OpenAI({ apiKey, baseURL: `${rig.url}/v1`, maxRetries: 0 });
}

const calls = (message) => message.tool_calls.map((call) => [call.type, call.function.name, JSON.parse(call.function.arguments)]);
const words = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");

rig.each("a stream adds up to the whole answer", async ({ to, name, model }) => {
  const { data: whole, response } = await client.chat.completions.create({ model: to, messages: HELLO }).withResponse();
  assert.equal(whole.choices[0].message.content, SAID);
  assert.equal(whole.choices[0].finish_reason, "stop");
  assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
  assert.ok(whole.usage.prompt_tokens > 0 && whole.usage.completion_tokens > 0);
  assert.equal(response.headers.get("x-polygate-provider"), to);
  assert.equal(response.headers.get("x-polygate-model"), model);
  assert.equal(whole._request_id, response.headers.get("x-request-id"));
  const stream = client.chat.completions.stream({ model: to, messages: HELLO, stream_options: { include_usage: true } });
  const pieces = [];
  stream.on("content", (piece) => pieces.push(piece));
  const final = await stream.finalChatCompletion();
  assert.ok(pieces.length > 3, "it came in pieces");
  assert.equal(pieces.join(""), SAID);
  assert.equal(final.choices[0].message.content, SAID);
  assert.equal(final.choices[0].finish_reason, "stop");
  assert.deepEqual(final.usage, whole.usage);
  for (const { body } of await rig.ledger()) assert.match(body, /Be brief\./, `instructions reach ${name}`);
});

rig.each("no usage comes unasked", async ({ to }) => {
  const { items, error } = await drain(client.chat.completions.create({ model: to, messages: HELLO, stream: true }));
  assert.equal(error, undefined);
  assert.equal(words(items), SAID);
  assert.ok(items.every((chunk) => chunk.choices.length === 1 && !chunk.usage));
});

rig.each("the output limit ends with length", async ({ to }) => {
  await rig.script({ tokens: 40 });
  const request = { model: to, messages: HELLO, max_completion_tokens: 20 };
  const whole = await client.chat.completions.create(request);
  assert.equal(whole.choices[0].finish_reason, "length");
  const { items } = await drain(client.chat.completions.create({ ...request, stream: true }));
  assert.equal(items.at(-1).choices[0].finish_reason, "length");
  assert.equal(words(items), whole.choices[0].message.content);
  assert.equal(whole.usage.completion_tokens, 20);
});

rig.each("parallel tool calls and their results make two turns", async ({ to }) => {
  const request = { model: to, messages: PARALLEL, tools: TOOLS };
  const { message, finish_reason } = (await client.chat.completions.create(request)).choices[0];
  const wanted = NAMES.map((name) => ["function", name, { city: "Paris" }]);
  assert.deepEqual(calls(message), wanted);
  assert.equal(finish_reason, "tool_calls");
  assert.equal(new Set(message.tool_calls.map((call) => call.id)).size, 2);
  const streamed = await client.chat.completions.stream(request).finalChatCompletion();
  assert.deepEqual(calls(streamed.choices[0].message), wanted);
  assert.equal(streamed.choices[0].finish_reason, "tool_calls");
  const results = message.tool_calls.map((call, at) => ({ role: "tool", tool_call_id: call.id, content: `sunny ${at}` }));
  const messages = [...PARALLEL, message, ...results];
  const second = (await client.chat.completions.create({ ...request, messages })).choices[0];
  assert.match(second.message.content, /^The tool answered: .*sunny/);
  assert.equal(second.finish_reason, "stop");
  const { body } = await rig.last();
  assert.ok(body.includes("sunny 0") && body.includes("sunny 1"), "each result reaches the provider");
});

for (const stream of [false, true]) {
  rig.each(`the SDK's own loop runs a tool ${stream ? "streamed" : "whole"}`, async ({ to }) => {
    const asked = [];
    const weather = (given) => (asked.push(given), "sunny in Paris");
    const tools = [{ type: "function", function: { ...TOOLS[0].function, function: weather, parse: JSON.parse } }];
    const messages = [{ role: "user", content: "What is the weather?" }];
    const runner = client.chat.completions.runTools({ model: to, messages, tools, stream });
    assert.match(await runner.finalContent(), /The tool answered: .*sunny in Paris/);
    assert.deepEqual(asked, [{ city: "Paris" }]);
    assert.equal((await rig.ledger()).length, 2, "two turns");
  });
}

rig.each("the choice of a tool is kept", async ({ to }) => {
  const choose = async (tool_choice) => {
    const answer = await client.chat.completions.create({ model: to, messages: HELLO, tools: TOOLS, tool_choice });
    return answer.choices[0].message.tool_calls?.map((call) => call.function.name);
  };
  assert.deepEqual(await choose("required"), ["get_weather"]);
  assert.deepEqual(await choose({ type: "function", function: { name: "get_time" } }), ["get_time"]);
  assert.equal(await choose("none"), undefined);
});

rig.each("answers keep to a schema", async ({ to }) => {
  const request = { model: to, messages: HELLO, response_format: zodResponseFormat(City, "place") };
  const whole = (await client.chat.completions.parse(request)).choices[0];
  assert.deepEqual(whole.message.parsed, { city: "Paris" });
  assert.equal(whole.finish_reason, "stop");
  const streamed = (await client.chat.completions.stream(request).finalChatCompletion()).choices[0];
  assert.deepEqual(streamed.message.parsed, { city: "Paris" });
  assert.equal(streamed.finish_reason, "stop");
});

rig.each("pictures reach the provider", async ({ to }) => {
  const content = [
    { type: "text", text: "Look" },
    { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } },
  ];
  const answer = await client.chat.completions.create({ model: to, messages: [{ role: "user", content }] });
  assert.match(answer.choices[0].message.content, /Look/);
  const { body } = await rig.last();
  assert.ok(body.includes(PIXEL) && /png/.test(body));
});

rig.each("thoughts come apart from the answer", async ({ to }) => {
  await rig.script({ thought: "Let me think of it." });
  const request = { model: to, messages: HELLO, reasoning_effort: "medium" };
  const { message } = (await client.chat.completions.create(request)).choices[0];
  assert.equal(message.reasoning_content, "Let me think of it.");
  assert.equal(message.content, SAID);
  const { items } = await drain(client.chat.completions.create({ ...request, stream: true }));
  assert.equal(items.map((chunk) => chunk.choices[0].delta.reasoning_content ?? "").join(""), "Let me think of it.");
  assert.equal(words(items), SAID);
});

for (const stream of [false, true]) {
  const how = stream ? "streamed" : "whole";

  for (const [status, kind] of [
    [400, OpenAI.BadRequestError],
    [500, OpenAI.InternalServerError],
    [503, OpenAI.InternalServerError],
  ]) {
    rig.each(`${status} is the SDK's own error in the provider's words, ${how}`, async ({ to }) => {
      await rig.script({ status, error: "top_p is odd" });
      const error = await failure(() => client.chat.completions.create({ model: to, messages: HELLO, stream }), kind);
      assert.equal(error.status, status);
      assert.match(error.message, /top_p is odd/);
      assert.equal(error.headers.get("x-polygate-origin"), "provider");
    });
  }
}

rig.eachLimited("429 says when to come again", async ({ to }) => {
  for (const stream of [false, true]) {
    const request = { model: to, messages: HELLO, stream };
    const error = await failure(() => client.chat.completions.create(request), OpenAI.RateLimitError);
    assert.equal(error.status, 429);
    assert.match(error.headers.get("retry-after"), /^[67]$/);
  }
});

for (const fault of BREAKS) {
  rig.each(`a stream that breaks raises (${Object.keys(fault)})`, async ({ to }) => {
    await rig.script({ fault, tokens: 30 });
    const { items, error } = await drain(client.chat.completions.create({ model: to, messages: HELLO, stream: true }));
    assert.ok(error instanceof OpenAI.APIError && !(error instanceof OpenAI.APIConnectionError), "an error event");
    assert.match(words(items), /^You said: /, "what came before the break came");
    assert.ok(items.every((chunk) => chunk.choices[0].finish_reason === null), "no clean end");
    await failure(() => client.chat.completions.stream({ model: to, messages: HELLO }).finalChatCompletion(), OpenAI.OpenAIError);
  });
}

rig.each("completions without an upstream that has them", async ({ to }) => {
  const request = { model: to, prompt: "Say hi", max_tokens: 50 };
  const whole = await client.completions.create(request);
  assert.match(whole.choices[0].text, /Say hi/);
  assert.equal(whole.choices[0].finish_reason, "stop");
  const { items, error } = await drain(client.completions.create({ ...request, stream: true }));
  assert.equal(error, undefined);
  assert.equal(items.map((chunk) => chunk.choices[0].text).join(""), whole.choices[0].text);
}, { upstreams: UPSTREAMS.filter(({ name }) => name !== "chat") });

test("models are listed and found", async () => {
  const listed = [];
  for await (const model of client.models.list()) listed.push(model.id);
  for (const { name } of UPSTREAMS) assert.ok(listed.includes(`to-${name}`), name);
  assert.equal((await client.models.retrieve("to-gemini")).id, "to-gemini");
  await failure(() => client.models.retrieve("none"), OpenAI.NotFoundError);
  assert.deepEqual((await connect("sk-some").models.list()).data.map((model) => model.id), ["to-chat"]);
});

for (const stream of [false, true]) {
  test(`what the gateway refuses is of the right class, ${stream ? "streamed" : "whole"}`, async () => {
    const ask = (key, model) => () => connect(key).chat.completions.create({ model, messages: HELLO, stream });
    await failure(ask("sk-wrong", "to-chat"), OpenAI.AuthenticationError);
    await failure(ask("sk-some", "to-gemini"), OpenAI.PermissionDeniedError);
    const error = await failure(ask("sk-all", "none"), OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    assert.equal(error.headers.get("x-polygate-origin"), "gateway");
  });
}
