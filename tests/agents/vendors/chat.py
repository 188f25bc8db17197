"""OpenAI Chat Completions."""

import json
import re

from . import Asked, Call, Result, data, dumps, inline, known, need, pieces, text_of

REQUEST = """model messages stream stream_options tools tool_choice parallel_tool_calls max_tokens max_completion_tokens temperature
    top_p n stop presence_penalty frequency_penalty logit_bias logprobs top_logprobs user seed response_format reasoning_effort
    service_tier store metadata modalities audio prediction verbosity web_search_options prompt_cache_key prompt_cache_retention
    safety_identifier functions function_call""".split()
PARTS = {
    "system": ("text",),
    "developer": ("text",),
    "user": ("text", "image_url", "input_audio", "file"),
    "assistant": ("text", "refusal"),
    "tool": ("text",),
}
MEMBERS = {
    "system": "role content name",
    "developer": "role content name",
    "user": "role content name",
    # reasoning_content is not OpenAI's, but of many that speak its interface.
    "assistant": "role content name refusal tool_calls audio function_call reasoning_content",
    "tool": "role content tool_call_id",
}
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

# Status and body.
BUSY = 503, {"error": {"message": "The engine is currently overloaded, please try again later", "type": "server_error", "param": None, "code": None}}


def call_id(at):
    return f"call_Polygate{at:016d}"


def check(body, headers, issued):
    need(headers.get("authorization", "").startswith("Bearer "), "You didn't provide an API key")
    known(body, REQUEST, "Unknown parameter")
    need("max_tokens" not in body, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.")
    need(body.get("stream") or "stream_options" not in body, "stream_options is only allowed when stream is enabled")
    messages(body.get("messages"))
    names = check_tools(body.get("tools"))
    need("tool_choice" not in body or names, "'tool_choice' is only allowed when 'tools' are specified")
    need("parallel_tool_calls" not in body or names, "'parallel_tool_calls' is only allowed when 'tools' are specified")


def check_tools(tools):
    if tools is None:
        return []
    need(tools, "[] is too short - 'tools'")
    names = []
    for at, tool in enumerate(tools):
        need(tool.get("type") in ("function", "custom"), f"tools[{at}].type: {tool.get('type')!r}")
        known(tool, ("type", tool["type"]), f"tools[{at}]")
        it = tool[tool["type"]]
        name = it.get("name", "")
        need(NAME.fullmatch(name), f"tools[{at}].function.name: string does not match pattern: {name!r}")
        need(name not in names, f"tools[{at}]: two tools called {name!r}")
        names.append(name)
        if tool["type"] == "function":
            known(it, ("name", "description", "parameters", "strict"), f"tools[{at}].function")
            check_schema(it.get("parameters"), bool(it.get("strict")), name)
    return names


def check_schema(schema, strict, name):
    if schema is None:
        return
    need(schema.get("type") == "object", f"Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"'")
    if not strict:
        return

    def walk(node, path):
        if not isinstance(node, dict):
            return
        if node.get("type") == "object" or "properties" in node:
            need(node.get("additionalProperties") is False, f"Invalid schema for function '{name}': 'additionalProperties' is required to be false at {path}")
            need(set(node.get("required", [])) == set(node.get("properties", {})), f"Invalid schema for function '{name}': 'required' has to name every key of properties at {path}")
        for key, value in node.get("properties", {}).items():
            walk(value, f"{path}.{key}")
        walk(node.get("items"), f"{path}[]")
        for one in node.get("anyOf", []):
            walk(one, path)

    walk(schema, name)


def messages(given):
    need(isinstance(given, list) and given, "[] is too short - 'messages'")
    waiting = []
    for at, message in enumerate(given):
        role = message.get("role")
        need(role in PARTS, f"messages[{at}].role: {role!r}")
        known(message, MEMBERS[role].split(), f"messages[{at}]")
        content = message.get("content")
        for part in content if isinstance(content, list) else []:
            need(part.get("type") in PARTS[role], f"messages[{at}]: content of type {part.get('type')!r} in a message of {role}")
        if role == "tool":
            answered = message.get("tool_call_id")
            need(answered in waiting, f"messages[{at}]: messages with role 'tool' must be a response to a preceding message with 'tool_calls' ({answered!r})")
            waiting.remove(answered)
            need(content is not None, f"messages[{at}].content: expected a string, got null")
            continue
        need(not waiting, f"messages[{at}]: An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. Missing: {waiting}")
        calls = message.get("tool_calls")
        need(calls is None or calls, f"messages[{at}].tool_calls: [] is too short")
        need(content or calls or (isinstance(content, str) and role != "assistant"), f"messages[{at}].content: expected a string, got {content!r}")
        for call in calls or []:
            need(call.get("type") in ("function", "custom"), f"messages[{at}].tool_calls: type {call.get('type')!r}")
            need(len(call.get("id", "")) in range(1, 41), f"messages[{at}].tool_calls.id: string too long or empty: {call.get('id')!r}")
            if call["type"] == "function":
                need(NAME.fullmatch(call["function"]["name"]), f"messages[{at}].tool_calls.function.name: {call['function']['name']!r}")
                json.loads(call["function"]["arguments"])
            waiting.append(call["id"])
    need(not waiting, f"tool_call_ids did not have response messages: {waiting}")


def read(body):
    tools = {}
    for tool in body.get("tools", []):
        it = tool[tool["type"]]
        tools[it["name"]] = it.get("parameters") or {} if tool["type"] == "function" else None
    asked = Asked(bool(body.get("stream")), tools)
    for message in body["messages"]:
        for call in message.get("tool_calls") or []:
            if call["type"] == "custom":
                asked.calls.append(Call(call["id"], call["custom"]["name"], call["custom"]["input"]))
            else:
                asked.calls.append(Call(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])))
        if message["role"] == "tool":
            asked.results.append(Result(message["tool_call_id"], None, text_of(message["content"])))
        for part in message["content"] if isinstance(message.get("content"), list) else []:
            if part["type"] == "image_url":
                asked.pictures.append(inline(part["image_url"]["url"]))
    asked.schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    return asked


def usage():
    return {
        "prompt_tokens": 120,
        "completion_tokens": 24,
        "total_tokens": 144,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def call_of(call):
    if isinstance(call.given, str):
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.given}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": dumps(call.given)}}


def stop_of(turn):
    return "tool_calls" if turn.calls else "stop"


def answer(body, turn):
    message = {"role": "assistant", "content": turn.text or None, "refusal": None}
    if turn.thought:
        message["reasoning_content"] = turn.thought
    if turn.calls:
        message["tool_calls"] = [call_of(call) for call in turn.calls]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": stop_of(turn)}
    return {"id": f"chatcmpl-Polygate{turn.number}", "object": "chat.completion", "created": 1750000000, "model": body["model"], "choices": [choice], "usage": usage()}


def events(body, turn):
    counted = (body.get("stream_options") or {}).get("include_usage")

    def chunk(choices, used=None):
        whole = {"id": f"chatcmpl-Polygate{turn.number}", "object": "chat.completion.chunk", "created": 1750000000, "model": body["model"], "choices": choices}
        return data({**whole, "usage": used} if counted else whole)

    def delta(delta, stop=None):
        return chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": stop}])

    yield delta({"role": "assistant", "content": "", "refusal": None})
    for piece in pieces(turn.thought):
        yield delta({"reasoning_content": piece})
    for piece in pieces(turn.text):
        yield delta({"content": piece})
    for at, call in enumerate(turn.calls):
        whole = call_of(call)
        kind, member = whole["type"], "input" if whole["type"] == "custom" else "arguments"
        yield delta({"tool_calls": [{**whole, "index": at, kind: {**whole[kind], member: ""}}]})
        for piece in pieces(whole[kind][member]):
            yield delta({"tool_calls": [{"index": at, kind: {member: piece}}]})
    yield delta({}, stop_of(turn))
    if counted:
        yield chunk([], usage())
    yield "data: [DONE]\n\n"


def error(message):
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
