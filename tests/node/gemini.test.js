// Google's SDK, generateContent.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ApiError, FinishReason, FunctionCallingConfigMode, GoogleGenAI } from "@google/genai";

import { BREAKS, drain, failure, PIXEL, SAID, SCHEMA, start, UPSTREAMS } from "./rig.js";

const rig = await start();
const client = connect("sk-all");
const PARALLEL = "What is the weather, in parallel?";
const NAMES = ["get_weather", "get_time"];
const TOOLS = [
  { functionDeclarations: NAMES.map((name) => ({ name, description: `Does ${name}`, parametersJsonSchema: SCHEMA })) },
];
const THOUGHT = "Let me think of it.";

function connect(apiKey) {
  return new GoogleGenAI({ apiKey, httpOptions: { baseUrl: rig.url } });
}

const ask = (model, config, contents = "Hello there") => client.models.generateContent({ model, contents, config });
const stream = (model, config, contents = "Hello there") => client.models.generateContentStream({ model, contents, config });
const calls = (answers) => answers.flatMap((answer) => answer.functionCalls ?? []).map((call) => [call.name, call.args]);
const words = (chunks) => chunks.map((chunk) => chunk.text ?? "").join("");
const thoughts = (answers) => {
  const parts = answers.flatMap((answer) => answer.candidates[0].content?.parts ?? []);
  return parts.filter((part) => part.thought).map((part) => part.text).join("");
};

rig.each("a stream adds up to the whole answer", async ({ to, model }) => {
  const brief = { systemInstruction: "Be brief." };
  const whole = await ask(to, brief);
  assert.equal(whole.text, SAID);
  assert.equal(whole.candidates[0].finishReason, FinishReason.STOP);
  const usage = whole.usageMetadata;
  assert.equal(usage.totalTokenCount, usage.promptTokenCount + usage.candidatesTokenCount);
  assert.ok(usage.promptTokenCount > 0 && usage.candidatesTokenCount > 0);
  const headers = whole.sdkHttpResponse.headers;
  assert.equal(headers["x-polygate-provider"], to);
  assert.equal(headers["x-polygate-model"], model);
  const { items, error } = await drain(stream(to, brief));
  assert.equal(error, undefined);
  assert.ok(items.length > 3, "it came in pieces");
  assert.equal(words(items), SAID);
  assert.equal(items.at(-1).candidates[0].finishReason, FinishReason.STOP);
  assert.deepEqual(items.at(-1).usageMetadata, usage);
  for (const { body } of await rig.ledger()) assert.match(body, /Be brief\./);
});

rig.each("the output limit ends with MAX_TOKENS", async ({ to }) => {
  await rig.script({ tokens: 40 });
  const whole = await ask(to, { maxOutputTokens: 20 });
  assert.equal(whole.candidates[0].finishReason, FinishReason.MAX_TOKENS);
  assert.equal(whole.usageMetadata.candidatesTokenCount, 20);
  const { items } = await drain(stream(to, { maxOutputTokens: 20 }));
  assert.equal(items.at(-1).candidates[0].finishReason, FinishReason.MAX_TOKENS);
  assert.equal(words(items), whole.text);
});

rig.each("parallel function calls and their results make two turns", async ({ to }) => {
  const wanted = NAMES.map((name) => [name, { city: "Paris" }]);
  const first = await ask(to, { tools: TOOLS }, PARALLEL);
  assert.deepEqual(calls([first]), wanted);
  assert.equal(first.candidates[0].finishReason, FinishReason.STOP);
  const { items } = await drain(stream(to, { tools: TOOLS }, PARALLEL));
  assert.deepEqual(calls(items), wanted);
  const results = first.functionCalls.map(({ id, name }, at) => ({ functionResponse: { id, name, response: { output: `sunny ${at}` } } }));
  const turns = [{ role: "user", parts: [{ text: PARALLEL }] }, first.candidates[0].content, { role: "user", parts: results }];
  const second = await ask(to, { tools: TOOLS }, turns);
  assert.match(second.text, /^The tool answered: .*sunny/);
  const { body } = await rig.last();
  assert.ok(body.includes("sunny 0") && body.includes("sunny 1"), "each result reaches the provider");
});

rig.each("a chat keeps its turns", async ({ to }) => {
  const chat = client.chats.create({ model: to, config: { systemInstruction: "Be brief." } });
  assert.equal((await chat.sendMessage({ message: "Hello there" })).text, SAID);
  const { items } = await drain(chat.sendMessageStream({ message: "And now?" }));
  assert.match(words(items), /And now\?/);
  const { body } = await rig.last();
  assert.match(body, /Hello there.*a simulated model.*And now\?/);
  assert.match(body, /Be brief\./);
});

for (const streamed of [false, true]) {
  rig.each(`the SDK's own loop runs a function ${streamed ? "streamed" : "whole"}`, async ({ to }) => {
    const asked = [];
    const tool = {
      tool: async () => TOOLS[0],
      callTool: async (called) => {
        asked.push(...called.map((call) => call.args));
        return called.map(({ id, name }) => ({ functionResponse: { id, name, response: { output: "sunny in Paris" } } }));
      },
    };
    const answer = await (streamed ? stream : ask)(to, { tools: [tool] }, "What is the weather?");
    const text = streamed ? words((await drain(answer)).items) : answer.text;
    assert.match(text, /The tool answered: .*sunny in Paris/);
    assert.deepEqual(asked, [{ city: "Paris" }]);
    assert.equal((await rig.ledger()).length, 2, "two turns");
  });
}

rig.each("the choice of a function is kept", async ({ to }) => {
  const choose = async (functionCallingConfig) => {
    const answer = await ask(to, { tools: TOOLS, toolConfig: { functionCallingConfig } });
    return calls([answer]).map(([name]) => name);
  };
  assert.deepEqual(await choose({ mode: FunctionCallingConfigMode.ANY }), ["get_weather"]);
  assert.deepEqual(await choose({ mode: FunctionCallingConfigMode.ANY, allowedFunctionNames: ["get_time"] }), ["get_time"]);
  assert.deepEqual(await choose({ mode: FunctionCallingConfigMode.NONE }), []);
});

for (const [member, schema] of [
  ["responseJsonSchema", SCHEMA],
  ["responseSchema", { type: "OBJECT", properties: { city: { type: "STRING" } }, required: ["city"] }],
]) {
  rig.each(`answers keep to a schema (${member})`, async ({ to }) => {
    const config = { responseMimeType: "application/json", [member]: schema };
    const whole = await ask(to, config);
    assert.deepEqual(JSON.parse(whole.text), { city: "Paris" });
    assert.equal(whole.candidates[0].finishReason, FinishReason.STOP);
    assert.deepEqual(JSON.parse(words((await drain(stream(to, config))).items)), { city: "Paris" });
  });
}

rig.each("pictures reach the provider", async ({ to }) => {
  const parts = [{ text: "Look" }, { inlineData: { mimeType: "image/png", data: PIXEL } }];
  assert.match((await ask(to, {}, [{ role: "user", parts }])).text, /Look/);
  const { body } = await rig.last();
  assert.ok(body.includes(PIXEL) && /png/.test(body));
});

rig.each("thoughts come apart from the answer, and are counted apart", async ({ to, name }) => {
  await rig.script({ thought: THOUGHT });
  const config = { thinkingConfig: { includeThoughts: true, thinkingBudget: 2000 }, maxOutputTokens: 4000 };
  const whole = await ask(to, config);
  assert.equal(whole.text, SAID);
  assert.equal(thoughts([whole]), THOUGHT);
  const { items } = await drain(stream(to, config));
  assert.equal(words(items), SAID);
  assert.equal(thoughts(items), THOUGHT);
  const { thoughtsTokenCount, candidatesTokenCount, promptTokenCount, totalTokenCount } = items.at(-1).usageMetadata;
  // Claude does not tell how much of its output was thought.
  if (["chat", "responses", "gemini"].includes(name)) assert.equal(thoughtsTokenCount, 5);
  assert.equal(totalTokenCount, promptTokenCount + candidatesTokenCount + (thoughtsTokenCount ?? 0));
});

rig.each("tokens are counted, and an estimate says that it is one", async ({ to, counts }) => {
  const count = async (times) => {
    const answer = await client.models.countTokens({ model: to, contents: "Hello there. ".repeat(times) });
    assert.equal(answer.sdkHttpResponse.headers["x-polygate-estimated"], counts ? undefined : "true");
    return answer.totalTokens;
  };
  const [short, long] = [await count(1), await count(50)];
  assert.ok(0 < short && short + 50 < long, `${short} < ${long}`);
  const asked = (await rig.ledger()).map((entry) => entry.endpoint);
  assert.deepEqual(asked, counts ? [counts, counts] : []);
}, { asks: false });

for (const [how, call] of [["whole", ask], ["streamed", stream]]) {
  for (const status of [400, 500, 503]) {
    rig.each(`${status} is the SDK's own error in the provider's words, ${how}`, async ({ to }) => {
      await rig.script({ status, error: "top_p is odd" });
      const error = await failure(() => call(to), ApiError);
      assert.equal(error.status, status);
      assert.match(error.message, /top_p is odd/);
    });
  }

  test(`what the gateway refuses has its code, ${how}`, async () => {
    const request = (model) => ({ model, contents: "Hello there" });
    const method = how === "whole" ? "generateContent" : "generateContentStream";
    for (const [key, model, status, word] of [
      ["sk-wrong", "to-chat", 401, "UNAUTHENTICATED"],
      ["sk-some", "to-gemini", 403, "PERMISSION_DENIED"],
      ["sk-all", "none", 404, "NOT_FOUND"],
    ]) {
      const error = await failure(() => connect(key).models[method](request(model)), ApiError);
      assert.equal(error.status, status);
      assert.equal(JSON.parse(error.message).error.status, word);
    }
  });
}

rig.eachLimited("429 is RESOURCE_EXHAUSTED", async ({ to }) => {
  for (const call of [ask, stream]) {
    const error = await failure(() => call(to), ApiError);
    assert.equal(error.status, 429);
    assert.equal(JSON.parse(error.message).error.status, "RESOURCE_EXHAUSTED");
  }
});

for (const fault of BREAKS) {
  rig.each(`a stream that breaks raises (${Object.keys(fault)})`, async ({ to }) => {
    await rig.script({ fault, tokens: 30 });
    const { items, error } = await drain(stream(to));
    assert.ok(error instanceof ApiError, `${error}`);
    assert.match(words(items), /^You said: /, "what came before the break came");
    assert.ok(items.every((chunk) => !chunk.candidates[0].finishReason), "no clean end");
  });
}

test("models are listed and found", async () => {
  const listed = [];
  for await (const model of await client.models.list()) listed.push(model.name);
  for (const { name } of UPSTREAMS) assert.ok(listed.includes(`models/to-${name}`), name);
  assert.equal((await client.models.get({ model: "to-gemini" })).name, "models/to-gemini");
  assert.equal((await failure(() => client.models.get({ model: "none" }), ApiError)).status, 404);
});
