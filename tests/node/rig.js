// The real binary between an official SDK and a simulated provider, one upstream for each format that the provider speaks.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const BINARY = process.env.POLYGATE_BIN ?? fileURLToPath(new URL("../../target/ci/polygate", import.meta.url));

/**
 * What every test is run against: the upstream's format decides which lane a call takes. `counts` is what counts its tokens; where
 * nothing does, counts are the gateway's estimates.
 */
export const UPSTREAMS = [
  { name: "chat", row: "type: openai, wire_api: chat", model: "gpt-5.1", endpoints: ["chat"] },
  { name: "responses", row: "type: response_api", model: "gpt-5.1", endpoints: ["responses", "responses-count"] },
  { name: "anthropic", row: "type: anthropic", model: "claude-sonnet-4-5", endpoints: ["messages"], counts: "count-tokens" },
  { name: "gemini", row: "type: gemini", model: "gemini-2.5-flash", endpoints: ["generate", "stream-generate"], counts: "gemini-count" },
  {
    name: "bedrock",
    row: "type: bedrock",
    model: "anthropic.claude-sonnet-4-5-20250929-v1:0",
    endpoints: ["converse", "converse-stream"],
    counts: "converse-count",
  },
];

/** A limit rests a provider: each test of one takes the next of these. */
const LIMITED = ["limited-0", "limited-1", "limited-2", "limited-3"];

export const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
export const SAID = 'You said: "Hello there". This is mock, a simulated model.';
export const SCHEMA = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};

/** Ways in which a stream breaks after its first words. */
export const BREAKS = [{ "cut-after": 10 }, { "reset-after": 10 }, { "error-after": 10 }, { "end-after": 10 }];

function configuration(url) {
  const provider = (use, { name, row, model }) =>
    `  - {name: ${use}-${name}, ${row}, api_base: '${url}', api_key: up-${name}, model_mapping: {${use}-${name}: '${model}'}}`;
  return `
providers:
${["to", ...LIMITED].flatMap((use) => UPSTREAMS.map((upstream) => provider(use, upstream))).join("\n")}
retry: {max_retries: 0, breaker_threshold: 1000000}
health_check: {enabled: false}
master_keys:
  - {name: all, key: sk-all}
  - {name: some, key: sk-some, allowed_models: [to-chat]}
`;
}

/** Starts the simulated provider and the gateway in front of it; both end with the file's tests. */
export async function start() {
  const directory = await mkdtemp(join(tmpdir(), "polygate-node-"));
  const mock = await run(["mock", "--port", "0", "--keep-bodies"], directory);
  await writeFile(join(directory, "gate.yaml"), configuration(mock.url));
  const gate = await run(["--port", "0", "-c", "gate.yaml"], directory);
  after(async () => {
    await Promise.all([gate.stop(), mock.stop()]);
    await rm(directory, { recursive: true });
  });
  return new Rig(gate.url, mock.url);
}

/** A program that says where it listens. */
async function run(args, cwd) {
  const child = spawn(BINARY, args, { cwd, env: { ADMIN_KEY: "pg-admin-for-node-sdks" }, stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const log = [];
  child.stderr.on("data", (piece) => log.push(piece));
  child.once("error", (error) => log.push(error));
  for await (const line of createInterface(child.stdout)) {
    const url = line.match(/http:\/\/[^\s]+[^\s.]/)?.[0];
    if (url) {
      child.stdout.resume();
      return { url, stop: () => (child.kill("SIGKILL"), ended) };
    }
  }
  throw new Error(`${args.join(" ")} did not start: ${log.join("")}`);
}

class Rig {
  #unlimited = [...LIMITED];

  constructor(url, mockUrl) {
    this.url = url;
    this.mockUrl = mockUrl;
  }

  async #control(method, path, body) {
    const answer = await fetch(`${this.mockUrl}/_mock/${path}`, { method, body: body && JSON.stringify(body) });
    const said = await answer.json();
    assert.equal(answer.status, 200, JSON.stringify(said));
    return said;
  }

  /** What the provider does with whatever comes next. */
  async script(then) {
    await this.#control("DELETE", "script");
    await this.#control("POST", "script", { then });
  }

  async forget() {
    await this.#control("DELETE", "script");
    await this.#control("DELETE", "ledger");
  }

  /** The requests that reached the provider. */
  ledger() {
    return this.#control("GET", "ledger");
  }

  async last() {
    return (await this.ledger()).at(-1);
  }

  /** A test, for each upstream, of what a provider's limit becomes. */
  eachLimited(title, body) {
    const limited = this.#unlimited.shift();
    this.each(title, async (upstream) => {
      await this.script({ status: 429, error: "slow down", headers: { "retry-after": "7" } });
      await body({ ...upstream, to: `${limited}-${upstream.name}` });
    });
  }

  /**
   * A test for each upstream. The provider speaks every format: whatever it was asked in another than the upstream's, or not asked
   * at all, fails the test.
   */
  each(title, body, { upstreams = UPSTREAMS, asks = true } = {}) {
    for (const upstream of upstreams) {
      test(`${title}, from ${upstream.name}`, { timeout: 20_000 }, async () => {
        await this.forget();
        await body({ ...upstream, to: `to-${upstream.name}` });
        const ledger = await this.ledger();
        const own = [...upstream.endpoints, upstream.counts];
        const foreign = ledger.filter((entry) => !own.includes(entry.endpoint));
        assert.deepEqual(foreign, [], "asked in a format that is not the upstream's");
        if (asks) assert.notEqual(ledger.length, 0, "the provider was not asked");
      });
    }
  }
}

/** The error that a call must end with. */
export async function failure(call, kind) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof kind)) throw error;
    return error;
  }
  assert.fail(`no ${kind.name}`);
}

/** Everything that an iterable gave, and what it threw. */
export async function drain(iterable) {
  const items = [];
  try {
    for await (const item of await iterable) items.push(item);
  } catch (error) {
    return { items, error };
  }
  return { items };
}
