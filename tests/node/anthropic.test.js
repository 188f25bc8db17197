// Anthropic's SDK, Messages.

import assert from "node:assert/strict";
import { test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";

import { BREAKS, drain, failure, PIXEL, SAID, SCHEMA, start, UPSTREAMS } from "./rig.js";

const rig = await start();
const client = connect("sk-all");
const HELLO = [{ role: "user", content: "Hello there" }];
const PARALLEL = [{ role: "user", content: "What is the weather, in parallel?" }];
const NAMES = ["get_weather", "get_time"];
const TOOLS = NAMES.map((name) => ({ name, description: `Does ${name}`, input_schema: SCHEMA }));
const THOUGHT = "Let me think of it.";
const PDF = "JVBERi0xLjQKJSVFT0YK";
const City = z.object({ city: z.string() });

function connect(apiKey) {
  return new Anthropic({ apiKey, baseURL: rig.url, maxRetries: 0 });
}

const request = (model, more) => ({ model, max_tokens: 100, messages: HELLO, ...more });
const calls = (message) => message.content.map((block) => [block.type, block.name, block.input]);
const words = (events) => events.map((event) => (event.type === "content_block_delta" ? event.delta.text : "")).join("");
/** A message without what differs from call to call. */
const shape = ({ type, role, content, stop_reason, stop_sequence, usage }) => {
  const blocks = content.map((block) => ({ ...block, signature: block.signature && "sealed", parsed_output: undefined }));
  return { type, role, stop_reason, stop_sequence, content: blocks, tokens: [usage.input_tokens, usage.output_tokens] };
};

rig.each("a stream adds up to the whole answer", async ({ to, model }) => {
  const asked = request(to, { system: "Be brief." });
  const { data: whole, response } = await client.messages.create(asked).withResponse();
  assert.deepEqual(whole.content.map(({ type, text }) => [type, text]), [["text", SAID]]);
  assert.equal(whole.stop_reason, "end_turn");
  assert.ok(whole.usage.input_tokens > 0 && whole.usage.output_tokens > 0);
  assert.equal(response.headers.get("x-polygate-provider"), to);
  assert.equal(response.headers.get("x-polygate-model"), model);
  const stream = client.messages.stream(asked);
  const pieces = [];
  stream.on("text", (piece) => pieces.push(piece));
  const final = await stream.finalMessage();
  assert.ok(pieces.length > 3, "it came in pieces");
  assert.equal(pieces.join(""), SAID);
  assert.deepEqual(shape(final), shape(whole));
  for (const { body } of await rig.ledger()) assert.match(body, /Be brief\./);
  const { items } = await drain(client.messages.create({ ...asked, stream: true }));
  assert.deepEqual([items[0].type, items.at(-1).type], ["message_start", "message_stop"]);
});

rig.each("the output limit ends with max_tokens", async ({ to }) => {
  await rig.script({ tokens: 40 });
  const asked = request(to, { max_tokens: 20 });
  const whole = await client.messages.create(asked);
  assert.equal(whole.stop_reason, "max_tokens");
  assert.equal(whole.usage.output_tokens, 20);
  assert.deepEqual(shape(await client.messages.stream(asked).finalMessage()), shape(whole));
});

rig.each("parallel tool calls and their results make two turns", async ({ to }) => {
  const asked = request(to, { messages: PARALLEL, tools: TOOLS });
  const wanted = NAMES.map((name) => ["tool_use", name, { city: "Paris" }]);
  const first = await client.messages.create(asked);
  assert.deepEqual(calls(first), wanted);
  assert.equal(first.stop_reason, "tool_use");
  assert.equal(new Set(first.content.map((block) => block.id)).size, 2);
  const streamed = await client.messages.stream(asked).finalMessage();
  assert.deepEqual(calls(streamed), wanted);
  assert.equal(streamed.stop_reason, "tool_use");
  const results = first.content.map((block, at) => ({ type: "tool_result", tool_use_id: block.id, content: `sunny ${at}` }));
  const turns = [...PARALLEL, { role: "assistant", content: first.content }, { role: "user", content: results }];
  const second = await client.messages.create({ ...asked, messages: turns });
  assert.match(second.content[0].text, /^The tool answered: .*sunny/);
  assert.equal(second.stop_reason, "end_turn");
  const { body } = await rig.last();
  assert.ok(body.includes("sunny 0") && body.includes("sunny 1"), "each result reaches the provider");
});

for (const stream of [false, true]) {
  rig.each(`the SDK's own loop runs a tool ${stream ? "streamed" : "whole"}`, async ({ to }) => {
    const asked = [];
    const run = (given) => (asked.push(given), "sunny in Paris");
    const tools = [betaTool({ name: "get_weather", description: "d", inputSchema: SCHEMA, run })];
    const messages = [{ role: "user", content: "What is the weather?" }];
    const last = await client.beta.messages.toolRunner(request(to, { messages, tools, stream })).runUntilDone();
    assert.match(last.content[0].text, /The tool answered: .*sunny in Paris/);
    assert.deepEqual(asked, [{ city: "Paris" }]);
    assert.equal((await rig.ledger()).length, 2, "two turns");
  });
}

rig.each("the choice of a tool is kept", async ({ to }) => {
  const choose = async (tool_choice) => {
    const answer = await client.messages.create(request(to, { tools: TOOLS, tool_choice }));
    return answer.content.filter((block) => block.type === "tool_use").map((block) => block.name);
  };
  assert.deepEqual(await choose({ type: "any" }), ["get_weather"]);
  assert.deepEqual(await choose({ type: "tool", name: "get_time" }), ["get_time"]);
  assert.deepEqual(await choose({ type: "none" }), []);
});

rig.each("answers keep to a schema", async ({ to }) => {
  const asked = request(to, { output_config: { format: zodOutputFormat(City) } });
  const whole = await client.messages.parse(asked);
  assert.deepEqual(whole.parsed_output, { city: "Paris" });
  assert.equal(whole.stop_reason, "end_turn");
  assert.deepEqual((await client.messages.stream(asked).finalMessage()).parsed_output, { city: "Paris" });
});

rig.each("pictures reach the provider", async ({ to }) => {
  const content = [
    { type: "text", text: "Look" },
    { type: "image", source: { type: "base64", media_type: "image/png", data: PIXEL } },
  ];
  const answer = await client.messages.create(request(to, { messages: [{ role: "user", content }] }));
  assert.match(answer.content[0].text, /Look/);
  const { body } = await rig.last();
  assert.ok(body.includes(PIXEL) && /png/.test(body));
});

/** What a format has no room for. */
const NO_ROOM = {
  chat: "/messages/2/content/0/is_error",
  responses: "/messages/2/content/0/is_error",
  gemini: "/messages/0/content/0/title",
};

rig.each("documents, and pictures in a tool's result, reach the provider, and what does not is named", async ({ to, name }) => {
  const use = { type: "tool_use", id: "toolu_1", name: "get_weather", input: { city: "Paris" } };
  const picture = { type: "image", source: { type: "base64", media_type: "image/png", data: PIXEL } };
  const result = { type: "tool_result", tool_use_id: use.id, is_error: true, content: [{ type: "text", text: "no sun" }, picture] };
  const document = { type: "document", source: { type: "base64", media_type: "application/pdf", data: PDF }, title: "a.pdf" };
  const messages = [
    { role: "user", content: [document, { type: "text", text: "What is the weather?" }] },
    { role: "assistant", content: [use] },
    { role: "user", content: [result] },
  ];
  const { data, response } = await client.messages.create(request(to, { messages, tools: TOOLS })).withResponse();
  assert.ok(data.content[0].text);
  const { body } = await rig.last();
  for (const sent of ["no sun", PIXEL, PDF]) assert.ok(body.includes(sent), `${sent} is not in ${body}`);
  assert.equal(response.headers.get("x-polygate-dropped"), NO_ROOM[name] ?? null);
  const strictly = { headers: { "x-polygate-strict": "true" } };
  const again = () => client.messages.create(request(to, { messages, tools: TOOLS }), strictly);
  if (NO_ROOM[name]) assert.ok((await failure(again, Anthropic.BadRequestError)).message.includes(NO_ROOM[name]));
  else await again();
});

rig.each("thinking comes in a block of its own, and goes back with its turn", async ({ to }) => {
  await rig.script({ thought: THOUGHT });
  const asked = request(to, {
    max_tokens: 3000,
    thinking: { type: "enabled", budget_tokens: 2000 },
    messages: [{ role: "user", content: "What is the weather?" }],
    tools: TOOLS,
  });
  const whole = await client.messages.create(asked);
  assert.deepEqual(whole.content.map((block) => block.type), ["thinking", "tool_use"]);
  assert.equal(whole.content[0].thinking, THOUGHT);
  const final = await client.messages.stream(asked).finalMessage();
  assert.deepEqual(final.content.map((block) => [block.type, block.thinking, block.input]), [
    ["thinking", THOUGHT, undefined],
    ["tool_use", undefined, { city: "Paris" }],
  ]);
  const results = [{ type: "tool_result", tool_use_id: final.content[1].id, content: "sunny" }];
  const turns = [...asked.messages, { role: "assistant", content: final.content }, { role: "user", content: results }];
  const second = await client.messages.create({ ...asked, messages: turns });
  assert.match(second.content.at(-1).text, /The tool answered: .*sunny/);
});

rig.each("tokens are counted, and an estimate says that it is one", async ({ to, counts }) => {
  const count = async (times) => {
    const messages = [{ role: "user", content: "Hello there. ".repeat(times) }];
    const { data, response } = await client.messages.countTokens({ model: to, messages, tools: TOOLS }).withResponse();
    assert.equal(response.headers.get("x-polygate-estimated"), counts ? null : "true");
    return data.input_tokens;
  };
  const [short, long] = [await count(1), await count(50)];
  assert.ok(0 < short && short + 50 < long, `${short} < ${long}`);
  const asked = (await rig.ledger()).map((entry) => entry.endpoint);
  assert.deepEqual(asked, counts ? [counts, counts] : []);
}, { asks: false });

for (const stream of [false, true]) {
  const how = stream ? "streamed" : "whole";

  for (const [status, kind, type] of [
    [400, Anthropic.BadRequestError, "invalid_request_error"],
    [500, Anthropic.InternalServerError, "api_error"],
    [529, Anthropic.InternalServerError, "overloaded_error"],
  ]) {
    rig.each(`${status} is the SDK's own error in the provider's words, ${how}`, async ({ to }) => {
      await rig.script({ status, error: "top_p is odd" });
      const error = await failure(() => client.messages.create(request(to, { stream })), kind);
      assert.equal(error.status, status);
      assert.equal(error.type, type);
      assert.match(error.message, /top_p is odd/);
      assert.equal(error.headers.get("x-polygate-origin"), "provider");
    });
  }

  test(`what the gateway refuses is of the right class, ${how}`, async () => {
    const ask = (key, model) => () => connect(key).messages.create(request(model, { stream }));
    await failure(ask("sk-wrong", "to-chat"), Anthropic.AuthenticationError);
    await failure(ask("sk-some", "to-gemini"), Anthropic.PermissionDeniedError);
    const error = await failure(ask("sk-all", "none"), Anthropic.NotFoundError);
    assert.equal(error.type, "not_found_error");
    assert.equal(error.headers.get("x-polygate-origin"), "gateway");
  });
}

rig.eachLimited("429 says when to come again", async ({ to }) => {
  for (const stream of [false, true]) {
    const error = await failure(() => client.messages.create(request(to, { stream })), Anthropic.RateLimitError);
    assert.equal(error.type, "rate_limit_error");
    assert.match(error.headers.get("retry-after"), /^[67]$/);
  }
});

for (const fault of BREAKS) {
  rig.each(`a stream that breaks raises (${Object.keys(fault)})`, async ({ to }) => {
    await rig.script({ fault, tokens: 30 });
    const { items, error } = await drain(client.messages.create(request(to, { stream: true })));
    assert.ok(error instanceof Anthropic.APIError && !(error instanceof Anthropic.APIConnectionError), "an error event");
    assert.equal(error.error.type, "error");
    assert.match(words(items), /^You said: /, "what came before the break came");
    assert.ok(!items.some((event) => /^message_(delta|stop)$/.test(event.type)), "no clean end");
    await failure(() => client.messages.stream(request(to)).finalMessage(), Anthropic.AnthropicError);
  });
}

test("models are listed and found", async () => {
  const listed = [];
  for await (const model of client.models.list()) listed.push(model.id);
  for (const { name } of UPSTREAMS) assert.ok(listed.includes(`to-${name}`), name);
  assert.equal((await client.models.retrieve("to-gemini")).type, "model");
  await failure(() => client.models.retrieve("none"), Anthropic.NotFoundError);
});
