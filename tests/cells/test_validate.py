"""The validator itself: good lines pass, each kind of bad line is told, recorded native traffic nearly all passes."""

import json
import os
from pathlib import Path

import pytest

import descriptions
import formats
import validate

CORPUS = os.environ.get("POLYGATE_CORPUS")
corpus = pytest.mark.skipif(not CORPUS, reason="POLYGATE_CORPUS is not set")

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}


def chat():
    message = {"role": "assistant", "content": "Hello", "refusal": None, "tool_calls": [CALL]}
    head = {"id": "c1", "created": 1, "model": "m"}
    answer = head | {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "usage": USAGE}
    deltas = [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
        {"tool_calls": [CALL | {"index": 0, "function": {"name": "weather", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ' "Rome"}'}}]},
    ]
    head["object"] = "chat.completion.chunk"
    chunks = [head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    chunks.append(head | {"choices": [], "usage": USAGE})
    return answer, [(None, chunk) for chunk in chunks] + [(None, "[DONE]")]


def responses():
    text = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    call = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city":"Rome"}', "status": "completed"}
    usage = {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 12,
    }
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    answer = head | {"status": "completed", "output": [message, call], "usage": usage}
    begun = head | {"status": "in_progress", "output": []}
    part = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    made = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": message | {"status": "in_progress", "content": []}}),
        ("response.content_part.added", part | {"part": text | {"text": ""}}),
        ("response.output_text.delta", part | {"delta": "Hel", "logprobs": []}),
        ("response.output_text.delta", part | {"delta": "lo", "logprobs": []}),
        ("response.output_text.done", part | {"text": "Hello", "logprobs": []}),
        ("response.content_part.done", part | {"part": text}),
        ("response.output_item.done", {"output_index": 0, "item": message}),
        ("response.output_item.added", {"output_index": 1, "item": call | {"status": "in_progress", "arguments": ""}}),
        ("response.function_call_arguments.delta", {"item_id": "fc_1", "output_index": 1, "delta": call["arguments"]}),
        ("response.function_call_arguments.done", {"item_id": "fc_1", "output_index": 1, "name": "weather", "arguments": call["arguments"]}),
        ("response.output_item.done", {"output_index": 1, "item": call}),
        ("response.completed", {"response": answer}),
    ]
    return answer, [(kind, {"type": kind, "sequence_number": at} | data) for at, (kind, data) in enumerate(made)]


def messages():
    text, tool = {"type": "text", "text": "Hello"}, {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
    answer = head | {"content": [text, tool], "stop_reason": "tool_use", "usage": {"input_tokens": 5, "output_tokens": 7}}
    made = [
        {"type": "message_start", "message": head | {"content": [], "stop_reason": None, "usage": {"input_tokens": 5, "output_tokens": 0}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": tool | {"input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"city":'}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ' "Rome"}'}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ]
    return answer, [(event["type"], event) for event in made]


def gemini():
    call = {"functionCall": {"name": "weather", "args": {"city": "Rome"}}}
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}

    def chunk(*parts, **more):
        return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, "index": 0} | more], "modelVersion": "m", "responseId": "r1"}

    answer = chunk({"text": "Hello"}, call, finishReason="STOP") | {"usageMetadata": usage}
    return answer, [(None, each) for each in (chunk({"text": "Hel"}), chunk({"text": "lo"}), chunk(call, finishReason="STOP") | {"usageMetadata": usage})]


def completions():
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}

    def choice(text, reason=None):
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}

    answer = head | {"choices": [choice("Hello", "stop")], "usage": USAGE}
    chunks = [head | {"choices": [each]} for each in (choice("Hel"), choice("lo"), choice("", "stop"))]
    return answer, [(None, chunk) for chunk in [*chunks, head | {"choices": [], "usage": USAGE}]] + [(None, "[DONE]")]


GOOD = {"openai-chat": chat, "openai-completions": completions, "openai-responses": responses, "anthropic-messages": messages, "gemini": gemini}
REQUESTS = {
    "openai-chat": {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "stream": True},
    "openai-responses": {"model": "m", "input": [{"role": "user", "content": "Hi"}], "max_output_tokens": 20},
    "anthropic-messages": {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}], "temperature": 0.5, "stream": True},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "generationConfig": {"stopSequences": ["x"]}},
    "bedrock-converse": {"messages": [{"role": "user", "content": [{"text": "Hi"}]}], "inferenceConfig": {"maxTokens": 5}},
}


def wire(events):
    lines = []
    for name, data in events:
        lines += [f"event: {name}\n"] if name else []
        lines.append(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n")
    return "".join(lines)


def line(kind, client, body, upstream="elsewhere", name="r1"):
    return {"kind": kind, "client": client, "upstream": upstream, "id": name, "body": body if isinstance(body, str) else json.dumps(body)}


def outcome(capsys, directory, lines):
    (directory / "lines.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    code = validate.main([str(directory), "--jobs", "1"])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("client", GOOD)
def test_good(client, tmp_path, capsys):
    answer, events = GOOD[client]()
    code, told = outcome(capsys, tmp_path, [line("answer", client, answer), line("stream", client, wire(events))])
    assert code == 0, told
    assert told.endswith("3 passed, 0 failed\n"), told  # the answer, the stream, the pair


def test_bad_lines(tmp_path, capsys):
    code, told = outcome(capsys, tmp_path, [{"kind": "answer"}, line("answer", "openai-chat", "{")])
    assert code == 1 and "not a line of the form described" in told and told.endswith("0 passed, 2 failed\n")


def test_nothing_is_no_pass(tmp_path, capsys):
    assert outcome(capsys, tmp_path, [])[0] == 1


def test_pieces_lose_no_line(tmp_path, monkeypatch):
    (tmp_path / "lines.jsonl").write_text("".join(f'"{"x" * at}"\n' for at in range(200)))
    for size in (1, 7, 100, 1000):
        monkeypatch.setattr(validate, "PIECE", size)
        read = [each for piece in validate.pieces(tmp_path) for each in validate.lines(*piece)]
        assert sorted(map(len, read)) == [at + 3 for at in range(200)]


def put(value, path, new):
    """`value` with what stands at `path` (dotted) replaced; `...` removes it."""
    value = json.loads(json.dumps(value))
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    at = value
    for step in steps:
        at = at[step]
    if new is ...:
        del at[last]
    else:
        at[last] = new
    return value


ANSWERS = [
    ("openai-completions", "object", "completion", "object: Input should be 'text_completion'"),
    ("openai-completions", "choices.0.finish_reason", None, "finish_reason: Input should be"),
    ("openai-completions", "usage.total_tokens", 11, "total_tokens is not"),
    ("openai-chat", "object", "chat", "object: Input should be 'chat.completion'"),
    ("openai-chat", "id", ..., "id: Field required"),
    ("openai-chat", "choices.0.finish_reason", "end_turn", "finish_reason: Input should be"),
    ("openai-chat", "choices.0.finish_reason", None, "finish_reason: Input should be"),
    ("openai-chat", "choices.0.message.content", ..., "no `content`"),
    ("openai-chat", "choices.0.message.tool_calls", [], "tool_calls without tool calls"),
    ("openai-chat", "usage.prompt_tokens", "5", "prompt_tokens: Input should be a valid integer"),
    ("openai-chat", "usage.total_tokens", 11, "total_tokens is not"),
    ("openai-responses", "tools", ..., "tools: Field required"),
    ("openai-responses", "status", "done", "status: Input should be"),
    ("openai-responses", "status", ..., "status of a whole answer is None"),
    ("openai-responses", "output.0.type", "text", "output.*: no member of the union has this type ('text')"),
    ("openai-responses", "output.0.content.0.annotations", ..., "annotations: Field required"),
    ("openai-responses", "usage.input_tokens_details.cache_write_tokens", ..., "cache_write_tokens: Field required"),
    ("anthropic-messages", "stop_reason", "stop", "stop_reason: Input should be"),
    ("anthropic-messages", "stop_reason", None, "no stop_reason"),
    ("anthropic-messages", "stop_sequence", ..., "no `stop_sequence`"),
    ("anthropic-messages", "content.0.type", "thought", "content.*: no member of the union has this type ('thought')"),
    ("anthropic-messages", "content.1.id", ..., "id: Field required"),
    ("anthropic-messages", "usage.input_tokens", ..., "input_tokens: Field required"),
    ("gemini", "candidates.0.finishReason", "stop", "finishReason stop"),
    ("gemini", "candidates.0.finishReason", "DONE", "DONE is not a valid FinishReason"),
    ("gemini", "candidates.0.content.parts.0.txt", "x", "Extra inputs are not permitted"),
    ("gemini", "candidates.0.finish_reason", "STOP", "Extra inputs are not permitted"),
    ("gemini", "usageMetadata", ..., "no usageMetadata"),
]


@pytest.mark.parametrize(("client", "path", "new", "expected"), ANSWERS)
def test_bad_answers(client, path, new, expected):
    told, *_ = formats.check(client, "answer", json.dumps(put(GOOD[client]()[0], path, new)))
    assert any(expected in each for each in told), told


STREAMS = [
    ("openai-completions", lambda e: e[:-1], "no [DONE]"),
    ("openai-completions", lambda e: e[:2] + e[3:], "no finish_reason at the end"),
    ("openai-completions", lambda e: e[2:3] + e, "no finish_reason at the end"),
    ("openai-chat", lambda e: e[:-1], "no [DONE]"),
    ("openai-chat", lambda e: e + [e[0]], "[DONE] is not last"),
    ("openai-chat", lambda e: e[1:], "first chunk has no role"),
    ("openai-chat", lambda e: e[:1] + e, "role is said twice"),
    ("openai-chat", lambda e: e[:6] + e[7:], "a choice has no finish_reason"),
    ("openai-chat", lambda e: e[:6] + e[7:8] + e[6:7] + e[8:], "usage before finish_reason"),
    ("openai-chat", lambda e: e[:7] + e[6:], "two finish_reasons"),
    ("openai-chat", lambda e: e[:7] + e[1:2] + e[7:], "a delta after finish_reason"),
    ("openai-chat", lambda e: e[:3] + e[4:], "does not begin with id, type and name"),
    ("openai-chat", lambda e: e[:4] + e[3:], "said twice"),
    ("openai-chat", lambda e: [(None, put(e[0][1], "object", "chat.completion"))] + e[1:], "object: Input should be"),
    ("openai-responses", lambda e: e + [(None, "[DONE]")], "[DONE] in a stream of Responses"),
    ("openai-responses", lambda e: e[:-1], "no response.completed"),
    ("openai-responses", lambda e: [(n, d | {"sequence_number": 1}) for n, d in e], "sequence_numbers"),
    ("openai-responses", lambda e: [(None, d) for _, d in e], "name is not its type"),
    ("openai-responses", lambda e: e[1:], "response.created is not the first"),
    ("openai-responses", lambda e: e[:3] + e[4:], "before its part was added"),
    ("openai-responses", lambda e: e[:5] + e[6:], "text is not the deltas"),
    ("openai-responses", lambda e: e[:8] + e[9:], "an output item is not done"),
    ("openai-responses", lambda e: e[:2] + e[9:], "output_index does not count up"),
    ("openai-responses", lambda e: e[:10] + e[12:], "were not streamed"),
    ("openai-responses", lambda e: e[:9] + e[13:], "is not the items that were done"),
    ("anthropic-messages", lambda e: e[:-1], "no message_stop"),
    ("anthropic-messages", lambda e: e[1:], "message_start is not the first"),
    ("anthropic-messages", lambda e: e[:5] + e[6:], "a block starts inside another"),
    ("anthropic-messages", lambda e: e[:1] + e[6:], "block indices are not"),
    ("anthropic-messages", lambda e: e[:3] + e[5:6] + e[3:5] + e[6:], "a delta outside its block"),
    ("anthropic-messages", lambda e: e[:8] + e[9:], "are not JSON"),
    ("anthropic-messages", lambda e: e[:10] + e[11:], "message_stop without message_delta"),
    ("anthropic-messages", lambda e: [(None, d) for _, d in e], "name is not its type"),
    ("gemini", lambda e: e[:-1], "the last chunk has no finishReason"),
    ("gemini", lambda e: e[-1:] + e, "finishReason before the last chunk"),
    ("gemini", lambda e: [*e[:-1], (None, put(e[-1][1], "usageMetadata", ...))], "the last chunk has no usageMetadata"),
]


@pytest.mark.parametrize(("client", "change", "expected"), STREAMS)
def test_bad_streams(client, change, expected):
    told, *_ = formats.check(client, "stream", wire(change(GOOD[client]()[1])))
    assert any(expected in each for each in told), told


@pytest.mark.parametrize("client", GOOD)
def test_the_last_event_is_ended(client):
    told, *_ = formats.check(client, "stream", wire(GOOD[client]()[1]).rstrip("\n"))
    assert any("not ended by an empty line" in each for each in told), told


ERRORS = {
    "openai-completions": (None, {"error": {"message": "no", "type": "server_error", "param": None, "code": None}}),
    "openai-chat": (None, {"error": {"message": "no", "type": "server_error", "param": None, "code": None}}),
    "openai-responses": ("error", {"type": "error", "sequence_number": 4, "code": "server_error", "message": "no", "param": None}),
    "anthropic-messages": ("error", {"type": "error", "error": {"type": "api_error", "message": "no"}}),
    "gemini": (None, {"error": {"code": 500, "message": "no", "status": "INTERNAL"}}),
}


@pytest.mark.parametrize("client", ERRORS)
def test_a_stream_may_end_in_an_error(client):
    _, events = GOOD[client]()
    begun = events[:4] if client != "gemini" else events[:1]
    assert formats.check(client, "stream", wire([*begun, ERRORS[client]])) == ([], None, True)
    told, *_ = formats.check(client, "stream", wire([*begun, ERRORS[client], events[-1]]))
    assert any("follows the error" in each for each in told), told


DIFFERENT = [
    ("openai-completions", "choices.0.text", "Hell", "differ in text"),
    ("openai-chat", "choices.0.finish_reason", "stop", 'finish_reason: "tool_calls" and "stop"'),
    ("openai-chat", "choices.0.message.tool_calls.0.function.arguments", "{}", "differ in choices.0.calls"),
    ("openai-responses", "output.0.content.0.text", "Hell", "differ in text"),
    ("anthropic-messages", "usage.input_tokens", 6, "differ in usage: input_tokens"),
    ("anthropic-messages", "content.1.input.city", "Oslo", "differ in calls"),
    ("gemini", "candidates.0.content.parts.0.text", "Bye", "differ in text"),
]


@pytest.mark.parametrize(("client", "path", "new", "expected"), DIFFERENT)
def test_differences(client, path, new, expected, tmp_path, capsys):
    answer, events = GOOD[client]()
    code, told = outcome(capsys, tmp_path, [line("stream", client, wire(events)), line("answer", client, put(answer, path, new))])
    assert code == 1 and expected in told and told.endswith("2 passed, 1 failed\n"), told


@corpus
@pytest.mark.parametrize("upstream", REQUESTS)
def test_requests(upstream):
    assert descriptions.check(upstream, json.dumps(REQUESTS[upstream])) == []
    told = descriptions.check(upstream, json.dumps(REQUESTS[upstream] | {"frobnicate": 1}))
    assert told == ["(top): unknown: frobnicate"]


WRONG = [
    ("openai-chat", "messages.0.content.0.cache_control", {}, "unknown: cache_control"),
    ("openai-chat", "messages.0.content.0.type", "input_text", "no variant is tagged"),
    ("openai-chat", "messages", ..., "required: messages"),
    ("openai-responses", "input.0.content", [{"type": "text", "text": "Hi"}], "no variant is tagged"),
    ("openai-responses", "max_output_tokens", 1, "minimum: 16"),
    ("anthropic-messages", "max_tokens", ..., "required: max_tokens"),
    ("anthropic-messages", "messages.0.content", [{"type": "text", "text": "Hi", "logprobs": 1}], "unknown: logprobs"),
    ("anthropic-messages", "messages.0.role", "tool", "no variant is tagged"),
    ("gemini", "contents.0.parts.0.inlineData", {"mimeType": "x", "base64": ""}, "unknown: base64"),
    ("gemini", "generationConfig.maxTokens", 1, "unknown: maxTokens"),
    ("bedrock-converse", "messages.0.content.0.image", {}, "a union of one member has ['image', 'text']"),
    ("bedrock-converse", "inferenceConfig.maxTokens", "5", "type: string where integer"),
    ("bedrock-converse", "messages.0.role", "tool", "enum"),
]


@corpus
@pytest.mark.parametrize(("upstream", "path", "new", "expected"), WRONG)
def test_bad_requests(upstream, path, new, expected):
    request = put(REQUESTS[upstream], path, new)
    told = descriptions.check(upstream, json.dumps(request))
    assert any(expected in each for each in told), told


def test_without_descriptions_it_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("POLYGATE_CORPUS", raising=False)
    descriptions.validators.cache_clear()
    (tmp_path / "lines.jsonl").write_text(json.dumps(line("request", "gemini", REQUESTS["openai-chat"], "openai-chat")) + "\n")
    validate.main([str(tmp_path), "--jobs", "1"])
    descriptions.validators.cache_clear()
    out, err = capsys.readouterr()
    assert "NO API DESCRIPTION" in err and "1 REQUESTS NOT CHECKED" in out


# What of the providers' own raw traffic must pass, of a hundred. The rest is not the provider's, or newer than the SDK.
NATIVE = [
    ("openai-chat", "openai-chat", "json", "answer", 99),
    ("openai-chat", "openai-chat", "sse", "stream", 90),
    ("openai-responses", "openai-responses", "json", "answer", 99),
    ("openai-responses", "openai-responses", "sse", "stream", 90),
    ("anthropic", "anthropic-messages", "json", "answer", 99),
    ("anthropic", "anthropic-messages", "sse", "stream", 99),
    ("gemini", "gemini", "json", "answer", 97),
    ("gemini", "gemini", "sse", "stream", 95),
]


def recorded(file, provider):
    for text in (Path(CORPUS) / "train" / f"{file}.jsonl").open():
        record = json.loads(text)
        path = record["path"].split("?")[0].rstrip("/")
        asked = path.endswith(("/chat/completions", "/responses", "/messages", ":generateContent", ":streamGenerateContent", "/converse", "/converse-stream"))
        if record["provider"] == provider and record["status"] == 200 and asked:
            yield record


@corpus
@pytest.mark.parametrize(("provider", "client", "encoding", "kind", "least"), NATIVE)
def test_native_answers(provider, client, encoding, kind, least):
    bodies = [
        (record["id"], record["response_body"])
        for record in recorded(provider, provider)
        # A list is Gemini's stream without `alt=sse`.
        if record["response_encoding"] == encoding and record["fidelity"] == "raw" and not isinstance(record["response_body"], list)
    ]
    told = {}
    for name, body in bodies:
        faults, *_ = formats.check(client, kind, body if isinstance(body, str) else json.dumps(body), native=True)
        if faults:
            told[name] = faults
    assert len(bodies) > 50
    assert 100 * (len(bodies) - len(told)) >= least * len(bodies), told


@corpus
@pytest.mark.parametrize(
    ("provider", "upstream", "least"),
    [("openai-chat", "openai-chat", 94), ("openai-responses", "openai-responses", 99), ("anthropic", "anthropic-messages", 98), ("gemini", "gemini", 95), ("bedrock-converse", "bedrock-converse", 100)],
)
def test_native_requests(provider, upstream, least):
    requests = [(record["id"], record["request_json"]) for record in recorded(provider, provider) if isinstance(record["request_json"], dict)]
    told = {name: faults for name, request in requests if (faults := descriptions.check(upstream, json.dumps(request)))}
    assert len(requests) > 50
    assert 100 * (len(requests) - len(told)) >= least * len(requests), told
