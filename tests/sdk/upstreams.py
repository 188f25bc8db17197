"""What the SDKs are put in front of: a model for each format that an upstream may speak, and what every client asks of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Upstream:
    """A provider of one format; `counts` is what counts its tokens, where something does."""

    row: str
    model: str
    endpoints: frozenset
    counts: str | None = None

    def provider(self, provider, model, key):
        return f"  - {{name: {provider}, {self.row}, api_base: '{{main}}', api_key: {key}, model_mapping: {{{model}: '{self.model}'}}}}"


UPSTREAMS = {
    "m-chat": Upstream("type: openai, wire_api: chat", "gpt-5.1", frozenset({"chat", "completions"})),
    "m-responses": Upstream("type: response_api", "gpt-5.1", frozenset({"responses"})),
    "m-anthropic": Upstream("type: anthropic", "claude-sonnet-4-5", frozenset({"messages"}), "count-tokens"),
    "m-gemini": Upstream("type: gemini", "gemini-2.5-flash", frozenset({"generate", "stream-generate"}), "gemini-count"),
    "m-bedrock": Upstream(
        "type: bedrock",
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
        frozenset({"converse", "converse-stream"}),
        "converse-count",
    ),
}
EVERY = list(UPSTREAMS)
# A limit rests a provider: each test of one has a model of its own, named after the client.
CLIENTS = ["openai", "responses", "anthropic", "gemini"]

SAID = 'You said: "Hello there". This is mock, a simulated model.'
THOUGHT = "Let me think of it."
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
BREAKS = [{"cut-after": 6}, {"reset-after": 8}, {"error-after": 8}, {"end-after": 8}]


def limited(client):
    return [f"{model}-limited-{client}" for model in EVERY]
