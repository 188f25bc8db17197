// OpenAI's SDK, Responses.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import { BREAKS, drain, failure, PIXEL, SAID, SCHEMA, start, UPSTREAMS } from "./rig.js";

const rig = await start();
const client = connect("sk-all");
const PARALLEL = "What is the weather, in parallel?";
const NAMES = ["get_weather", "get_time"];
const TOOLS = NAMES.map((name) => ({ type: "function", name, description: `Does ${name}`, parameters: SCHEMA, strict: true }));
const KEEPS_NOTHING = UPSTREAMS.filter(({ name }) => name !== "responses");
const City = z.object({ city: z.string() });

function connect(apiKey) {
  return new OpenAI({ apiKey, baseURL: `${rig.url}/v1`, maxRetries: 0 });
}

const calls = (response) => response.output.map((item) => [item.type, item.name, JSON.parse(item.arguments)]);
const words = (events) => events.map((event) => (event.type === "response.output_text.delta" ? event.delta : "")).join("");
/** An answer without what differs from call to call. */
const shape = ({ status, error, incomplete_details, instructions, output_text, output, usage }) => {
  const items = output.map((item) => ({ ...item, id: undefined, call_id: undefined, encrypted_content: undefined }));
  return { status, error, incomplete_details, instructions, output_text, usage, output: items };
};

rig.each("a stream adds up to the whole answer", async ({ to, model }) => {
  const request = { model: to, input: "Hello there", instructions: "Be brief." };
  const { data: whole, response } = await client.responses.parse(request).withResponse();
  assert.equal(whole.output_text, SAID);
  assert.equal(whole.status, "completed");
  assert.equal(whole.usage.total_tokens, whole.usage.input_tokens + whole.usage.output_tokens);
  assert.ok(whole.usage.input_tokens > 0 && whole.usage.output_tokens > 0);
  assert.equal(response.headers.get("x-polygate-provider"), to);
  assert.equal(response.headers.get("x-polygate-model"), model);
  const stream = client.responses.stream(request);
  const events = [];
  for await (const event of stream) events.push(event);
  assert.equal(events[0].type, "response.created");
  assert.equal(events.at(-1).type, "response.completed");
  assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, at) => at), "numbers without a gap");
  assert.equal(words(events), SAID);
  assert.ok(events.filter((event) => event.type === "response.output_text.delta").length > 3, "it came in pieces");
  assert.deepEqual(shape(await stream.finalResponse()), shape(whole));
  for (const { body } of await rig.ledger()) assert.match(body, /Be brief\./);
});

rig.each("the output limit makes an answer incomplete", async ({ to }) => {
  await rig.script({ tokens: 40 });
  const request = { model: to, input: "Hello there", max_output_tokens: 20 };
  const whole = await client.responses.create(request);
  assert.equal(whole.status, "incomplete");
  assert.equal(whole.incomplete_details.reason, "max_output_tokens");
  assert.equal(whole.usage.output_tokens, 20);
  const { items } = await drain(client.responses.create({ ...request, stream: true }));
  assert.equal(items.at(-1).type, "response.incomplete");
  assert.equal(words(items), whole.output_text);
});

rig.each("parallel tool calls and their results make two turns", async ({ to }) => {
  const request = { model: to, tools: TOOLS };
  const first = await client.responses.create({ ...request, input: PARALLEL });
  const wanted = NAMES.map((name) => ["function_call", name, { city: "Paris" }]);
  assert.deepEqual(calls(first), wanted);
  assert.equal(new Set(first.output.map((item) => item.call_id)).size, 2);
  const streamed = await client.responses.stream({ ...request, input: PARALLEL }).finalResponse();
  assert.deepEqual(calls(streamed), wanted);
  const results = first.output.map((item, at) => ({ type: "function_call_output", call_id: item.call_id, output: `sunny ${at}` }));
  const input = [{ role: "user", content: PARALLEL }, ...first.output, ...results];
  const second = await client.responses.create({ ...request, input });
  assert.match(second.output_text, /^The tool answered: .*sunny/);
  const { body } = await rig.last();
  assert.ok(body.includes("sunny 0") && body.includes("sunny 1"), "each result reaches the provider");
});

for (const stream of [false, true]) {
  const ask = (request) => (stream ? client.responses.stream(request).finalResponse() : client.responses.create(request));

  rig.each(`an answer is gone on from by its id, ${stream ? "streamed" : "whole"}`, async ({ to }) => {
    const first = await ask({ model: to, input: "What is the weather?", tools: TOOLS });
    const [call] = first.output;
    const input = [{ type: "function_call_output", call_id: call.call_id, output: "sunny in Paris" }];
    const second = await ask({ model: to, input, tools: TOOLS, previous_response_id: first.id });
    assert.match(second.output_text, /The tool answered: .*sunny in Paris/);
    assert.equal(second.previous_response_id, first.id);
    const { body } = await rig.last();
    assert.match(body, /What is the weather\?/, "the conversation reaches the provider");
    const third = await ask({ model: to, input: "And now?", previous_response_id: second.id });
    assert.match(third.output_text, /And now\?/);
    assert.match((await rig.last()).body, /What is the weather\?.*sunny in Paris.*The tool answered.*And now\?/);
  }, { upstreams: KEEPS_NOTHING });
}

rig.each("an answer that was not to be kept is not gone on from", async ({ to }) => {
  const first = await client.responses.create({ model: to, input: "Hello there", store: false });
  const request = { model: to, input: "And now?", previous_response_id: first.id };
  const error = await failure(() => client.responses.create(request), OpenAI.BadRequestError);
  assert.equal(error.param, "previous_response_id");
}, { upstreams: KEEPS_NOTHING });

rig.each("the choice of a tool is kept", async ({ to }) => {
  const choose = async (tool_choice) => {
    const answer = await client.responses.create({ model: to, input: "Hello there", tools: TOOLS, tool_choice });
    return answer.output.filter((item) => item.type === "function_call").map((item) => item.name);
  };
  assert.deepEqual(await choose("required"), ["get_weather"]);
  assert.deepEqual(await choose({ type: "function", name: "get_time" }), ["get_time"]);
  assert.deepEqual(await choose("none"), []);
});

rig.each("answers keep to a schema", async ({ to }) => {
  const request = { model: to, input: "Hello there", text: { format: zodTextFormat(City, "place") } };
  assert.deepEqual((await client.responses.parse(request)).output_parsed, { city: "Paris" });
  assert.deepEqual((await client.responses.stream(request).finalResponse()).output_parsed, { city: "Paris" });
});

rig.each("pictures reach the provider", async ({ to }) => {
  const content = [
    { type: "input_text", text: "Look" },
    { type: "input_image", detail: "auto", image_url: `data:image/png;base64,${PIXEL}` },
  ];
  const answer = await client.responses.create({ model: to, input: [{ role: "user", content }] });
  assert.match(answer.output_text, /Look/);
  const { body } = await rig.last();
  assert.ok(body.includes(PIXEL) && /png/.test(body));
});

rig.each("thoughts are summed up beside the answer", async ({ to }) => {
  await rig.script({ thought: "Let me think of it." });
  const request = { model: to, input: "Hello there", reasoning: { effort: "medium", summary: "auto" } };
  const whole = await client.responses.parse(request);
  const thought = whole.output.find((item) => item.type === "reasoning");
  assert.deepEqual(thought.summary, [{ type: "summary_text", text: "Let me think of it." }]);
  assert.equal(whole.output_text, SAID);
  const streamed = await client.responses.stream(request).finalResponse();
  assert.deepEqual(shape(streamed), shape(whole));
});

rig.each("tokens are counted, and an estimate says that it is one", async ({ to, name, counts }) => {
  const counter = name === "responses" ? "responses-count" : counts;
  const count = async (times) => {
    const asked = { model: to, input: "Hello there. ".repeat(times), instructions: "Be brief.", tools: TOOLS };
    const { data, response } = await client.responses.inputTokens.count(asked).withResponse();
    assert.equal(response.headers.get("x-polygate-estimated"), counter ? null : "true");
    assert.equal(data.object, "response.input_tokens");
    return data.input_tokens;
  };
  const [short, long] = [await count(1), await count(50)];
  assert.ok(0 < short && short + 50 < long, `${short} < ${long}`);
  const asked = (await rig.ledger()).map((entry) => entry.endpoint);
  assert.deepEqual(asked, counter ? [counter, counter] : []);
}, { asks: false });

for (const stream of [false, true]) {
  const how = stream ? "streamed" : "whole";

  for (const [status, kind] of [
    [400, OpenAI.BadRequestError],
    [500, OpenAI.InternalServerError],
    [503, OpenAI.InternalServerError],
  ]) {
    rig.each(`${status} is the SDK's own error in the provider's words, ${how}`, async ({ to }) => {
      await rig.script({ status, error: "top_p is odd" });
      const error = await failure(() => client.responses.create({ model: to, input: "Hello there", stream }), kind);
      assert.equal(error.status, status);
      assert.match(error.message, /top_p is odd/);
      assert.equal(error.headers.get("x-polygate-origin"), "provider");
    });
  }

  test(`what the gateway refuses is of the right class, ${how}`, async () => {
    const ask = (key, model) => () => connect(key).responses.create({ model, input: "Hello there", stream });
    await failure(ask("sk-wrong", "to-chat"), OpenAI.AuthenticationError);
    await failure(ask("sk-some", "to-gemini"), OpenAI.PermissionDeniedError);
    await failure(ask("sk-all", "none"), OpenAI.NotFoundError);
  });
}

rig.eachLimited("429 says when to come again", async ({ to }) => {
  for (const stream of [false, true]) {
    const request = { model: to, input: "Hello there", stream };
    const error = await failure(() => client.responses.create(request), OpenAI.RateLimitError);
    assert.match(error.headers.get("retry-after"), /^[67]$/);
  }
});

for (const fault of BREAKS) {
  rig.each(`a stream that breaks says so (${Object.keys(fault)})`, async ({ to }) => {
    await rig.script({ fault, tokens: 30 });
    const { items } = await drain(client.responses.create({ model: to, input: "Hello there", stream: true }));
    assert.ok(["error", "response.failed"].includes(items.at(-1).type), "the SDK hands on errors of this format as events");
    assert.match(words(items), /^You said: /, "what came before the break came");
    assert.ok(!items.some((event) => /^response\.(completed|incomplete)$/.test(event.type)), "no clean end");
    const final = await drain([client.responses.stream({ model: to, input: "Hello there" }).finalResponse()]);
    assert.ok(final.error || final.items[0].status === "failed", "its helper does not take that for an answer");
  });
}
