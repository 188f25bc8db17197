// Vercel's AI SDK, through its provider of each client format.

import assert from "node:assert/strict";

import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, generateObject, generateText, Output, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";

import { BREAKS, drain, failure, PIXEL, SAID, start } from "./rig.js";

globalThis.AI_SDK_LOG_WARNINGS = false;

const rig = await start();
const apiKey = "sk-all";
const openai = createOpenAI({ apiKey, baseURL: `${rig.url}/v1` });
const anthropic = createAnthropic({ apiKey, baseURL: `${rig.url}/v1` });
const google = createGoogleGenerativeAI({ apiKey, baseURL: `${rig.url}/v1beta` });
const THOUGHT = "Let me think of it.";
const City = z.object({ city: z.string() });
const CLIENTS = {
  "openai.chat": { of: (name) => openai.chat(name) },
  "openai.responses": {
    of: (name) => openai.responses(name),
    thinking: { openai: { reasoningEffort: "medium", reasoningSummary: "auto", forceReasoning: true } },
  },
  anthropic: { of: (name) => anthropic(name), thinking: { anthropic: { thinking: { type: "enabled", budgetTokens: 2000 } } } },
  google: { of: (name) => google(name), thinking: { google: { thinkingConfig: { includeThoughts: true, thinkingBudget: 2000 } } } },
};

/** A tool, and what it was called with. */
function weather() {
  const asked = [];
  const execute = (given) => (asked.push(given), "sunny in Paris");
  return { asked, tools: { get_weather: tool({ description: "Gets the weather", inputSchema: City, execute }) } };
}

/** A stream's parts, without the SDK's habit of printing errors. */
const parts = async (options) => (await drain(streamText({ ...options, onError: () => {} }).fullStream)).items;
const words = (items) => items.map((part) => (part.type === "text-delta" ? part.text : "")).join("");
const total = ({ inputTokens, outputTokens }) => [inputTokens, outputTokens];

for (const [client, { of, thinking }] of Object.entries(CLIENTS)) {
  const each = (title, body) => rig.each(`${client}: ${title}`, body);
  const asking = (to, more) => ({ model: of(to), maxRetries: 0, prompt: "Hello there", ...more });

  each("a stream adds up to the whole answer", async ({ to, model }) => {
    const options = asking(to, { system: "Be brief." });
    const whole = await generateText(options);
    assert.equal(whole.text, SAID);
    assert.equal(whole.finishReason, "stop");
    assert.ok(whole.usage.inputTokens > 0 && whole.usage.outputTokens > 0);
    assert.equal(whole.response.headers["x-polygate-model"], model);
    const items = await parts(options);
    assert.equal(words(items), SAID);
    assert.ok(items.filter((part) => part.type === "text-delta").length > 3, "it came in pieces");
    const finish = items.at(-1);
    assert.deepEqual([finish.type, finish.finishReason], ["finish", "stop"]);
    assert.deepEqual(total(finish.totalUsage), total(whole.usage));
    for (const { body } of await rig.ledger()) assert.match(body, /Be brief\./);
  });

  each("the output limit ends with length", async ({ to }) => {
    await rig.script({ tokens: 40 });
    const options = asking(to, { maxOutputTokens: 20 });
    const whole = await generateText(options);
    assert.equal(whole.finishReason, "length");
    const items = await parts(options);
    assert.equal(items.at(-1).finishReason, "length");
    assert.equal(words(items), whole.text);
  });

  each("a tool loop takes two steps, whole", async ({ to }) => {
    const { asked, tools } = weather();
    const result = await generateText(asking(to, { prompt: "What is the weather?", tools, stopWhen: stepCountIs(3) }));
    assert.match(result.text, /The tool answered: .*sunny in Paris/);
    assert.deepEqual(result.steps.map((step) => step.finishReason), ["tool-calls", "stop"]);
    assert.deepEqual(asked, [{ city: "Paris" }]);
    assert.equal((await rig.ledger()).length, 2);
  });

  each("a tool loop takes two steps, streamed, with thoughts in between", async ({ to }) => {
    await rig.script({ thought: THOUGHT });
    const { asked, tools } = weather();
    const options = { prompt: "What is the weather?", tools, stopWhen: stepCountIs(3), providerOptions: thinking, maxOutputTokens: 4000 };
    const items = await parts(asking(to, options));
    assert.deepEqual(items.filter((part) => part.type === "error"), []);
    assert.match(words(items), /The tool answered: .*sunny in Paris/);
    const steps = items.filter((part) => part.type === "finish-step");
    assert.deepEqual(steps.map((step) => step.finishReason), ["tool-calls", "stop"]);
    assert.deepEqual(asked, [{ city: "Paris" }]);
    const [, second] = await rig.ledger();
    assert.match(second.body, /What is the weather\?/);
    assert.match(second.body, /get_weather/);
  });

  each("a conversation goes on from what was answered", async ({ to, name }) => {
    const asked = { role: "user", content: "Hello there" };
    const { prompt, ...options } = asking(to);
    const first = await generateText({ ...options, messages: [asked] });
    const messages = [asked, ...first.response.messages, { role: "user", content: "And now?" }];
    assert.match((await generateText({ ...options, messages })).text, /And now\?/);
    const { body } = await rig.last();
    // Who keeps answers is told their ids alone.
    const said = client === "openai.responses" && name === "responses" ? /item_reference/ : /a simulated model/;
    assert.match(body, said);
    assert.match(body, /Hello there[^]*And now\?/);
  });

  if (thinking) {
    each("thoughts come apart from the answer", async ({ to }) => {
      await rig.script({ thought: THOUGHT });
      const options = asking(to, { providerOptions: thinking, maxOutputTokens: 4000 });
      const whole = await generateText(options);
      assert.equal(whole.reasoningText, THOUGHT);
      assert.equal(whole.text, SAID);
      const items = await parts(options);
      assert.equal(items.map((part) => (part.type === "reasoning-delta" ? part.text : "")).join(""), THOUGHT);
      assert.equal(words(items), SAID);
    });
  }

  each("answers keep to a schema", async ({ to }) => {
    const { object, finishReason } = await generateObject(asking(to, { schema: City }));
    assert.deepEqual(object, { city: "Paris" });
    assert.equal(finishReason, "stop");
    const { items } = await drain(streamObject(asking(to, { schema: City })).partialObjectStream);
    assert.deepEqual(items.at(-1), { city: "Paris" });
    const { output } = await generateText(asking(to, { output: Output.object({ schema: City }) }));
    assert.deepEqual(output, { city: "Paris" });
  });

  each("pictures reach the provider", async ({ to }) => {
    const content = [
      { type: "text", text: "Look" },
      { type: "image", image: PIXEL, mediaType: "image/png" },
    ];
    const answer = await generateText({ model: of(to), maxRetries: 0, messages: [{ role: "user", content }] });
    assert.match(answer.text, /Look/);
    const { body } = await rig.last();
    assert.ok(body.includes(PIXEL) && /png/.test(body));
  });

  for (const status of [400, 500, 503]) {
    each(`${status} is the SDK's own error in the provider's words`, async ({ to }) => {
      await rig.script({ status, error: "top_p is odd" });
      const error = await failure(() => generateText(asking(to)), APICallError);
      assert.equal(error.statusCode, status);
      assert.equal(error.message, "top_p is odd");
      assert.equal(error.isRetryable, status >= 500);
      const [streamed] = (await parts(asking(to))).filter((part) => part.type === "error");
      assert.ok(APICallError.isInstance(streamed.error) && streamed.error.statusCode === status);
    });
  }

  rig.eachLimited(`${client}: 429 says when to come again`, async ({ to }) => {
    const error = await failure(() => generateText(asking(to)), APICallError);
    assert.equal(error.statusCode, 429);
    assert.equal(error.isRetryable, true);
    assert.match(error.responseHeaders["retry-after"], /^[67]$/);
  });

  for (const fault of BREAKS) {
    each(`a stream that breaks says so (${Object.keys(fault)})`, async ({ to }) => {
      await rig.script({ fault, tokens: 30 });
      const items = await parts(asking(to));
      assert.match(words(items), /^You said: /, "what came before the break came");
      assert.ok(items.some((part) => part.type === "error"), "an error");
      assert.ok(!items.some((part) => part.finishReason === "stop"), "no clean end");
    });
  }
}
