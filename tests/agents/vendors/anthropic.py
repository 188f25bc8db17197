"""Anthropic Messages."""

import re

from . import Asked, Call, Result, dumps, known, named, need, pieces, text_of

REQUEST = """model messages max_tokens system metadata stop_sequences stream temperature top_k top_p tools tool_choice thinking
    service_tier container mcp_servers context_management output_config output_format cache_control inference_geo speed
    diagnostics""".split()
BLOCKS = {
    "text": "text citations cache_control",
    "image": "source cache_control",
    "document": "source title context citations cache_control",
    "thinking": "thinking signature",
    "redacted_thinking": "data",
    "tool_use": "id name input cache_control caller",
    "tool_result": "tool_use_id content is_error cache_control",
}
ID = re.compile(r"[a-zA-Z0-9_-]+")
NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
SERVER_TOOL = re.compile(r"(web_search|web_fetch|code_execution|bash|text_editor|computer|memory|tool_search_tool_\w+|advisor)_\d{8}")

# Status and body.
BUSY = 529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_polygate"}


def call_id(at):
    return f"toolu_01Polygate{at:015d}"


def check(body, headers, issued):
    need(headers.get("x-api-key") or headers.get("authorization"), "x-api-key: missing")
    need(headers.get("anthropic-version") == "2023-06-01", "anthropic-version: header is required")
    known(body, REQUEST, "request")
    need(isinstance(body.get("max_tokens"), int) and body["max_tokens"] >= 1, "max_tokens: Field required")
    messages(body, headers, issued)
    for block in body["system"] if isinstance(body.get("system"), list) else []:
        need(block.get("type") == "text" and block.get("text"), "system: text content blocks must be non-empty")
    names = set()
    for at, tool in enumerate(body.get("tools", [])):
        name = tool.get("name")
        need(name not in names, f"tools: Tool names must be unique ({name})")
        names.add(name)
        if tool.get("type", "custom") != "custom":
            need(SERVER_TOOL.fullmatch(tool["type"]), f"tools.{at}: unknown type {tool['type']!r}")
            continue
        need(NAME.fullmatch(name or ""), f"tools.{at}.name: String should match pattern '{NAME.pattern}', not {name!r}")
        schema = tool.get("input_schema")
        need(isinstance(schema, dict) and schema.get("type") == "object", f"tools.{at}.input_schema.type: Field required ({name})")
        for word in ("oneOf", "allOf", "anyOf"):
            need(word not in schema, f"tools.{at}.input_schema: {word} is not supported at the top level ({name})")
        known(tool, "type name description input_schema cache_control strict defer_loading eager_input_streaming input_examples allowed_callers".split(), f"tools.{at}")
    choice = body.get("tool_choice")
    if choice is not None:
        need(choice.get("type") in ("auto", "any", "tool", "none"), f"tool_choice: {choice}")
        need(names, "tool_choice: may only be specified while providing tools")
    thinking(body, issued)


def thinking(body, issued):
    asked = body.get("thinking")
    newest = not re.match(r"claude-(sonnet|haiku|opus)-4-[0-6]", body["model"])
    need(newest or "effort" not in body.get("output_config", {}), "This model does not support the effort parameter.")
    if asked is None:
        return
    need(asked.get("type") in ("enabled", "disabled", "adaptive"), f"thinking.type: {asked}")
    need(asked["type"] != "enabled" or not newest, '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive"')
    need(asked["type"] != "adaptive" or newest, "adaptive thinking is not supported on this model")
    if asked["type"] == "enabled":
        budget = asked.get("budget_tokens")
        need(isinstance(budget, int) and budget >= 1024, "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        need(budget < body["max_tokens"], "`max_tokens` must be greater than `thinking.budget_tokens`")
    if asked["type"] != "disabled":
        need(body.get("temperature", 1) == 1, "`temperature` may only be set to 1 when thinking is enabled")
        need((body.get("tool_choice") or {}).get("type") not in ("any", "tool"), "Thinking may not be enabled when tool_choice forces tool use")
        check_kept(body, issued)


def check_kept(body, issued):
    """Who thought before a call has to show so while it is answered."""
    last = [blocks for role, blocks in merged(body["messages"]) if role == "assistant"][-1:]
    if issued and last and any(block["type"] == "tool_use" for block in last[0]) and body["thinking"]["type"] == "enabled":
        kind = last[0][0]["type"]
        need(kind in ("thinking", "redacted_thinking"), f"Expected `thinking` or `redacted_thinking`, but found `{kind}`. When `thinking` is enabled, a final `assistant` message must start with a thinking block")


def merged(messages):
    """Anthropic joins turns of the same role before it looks at them."""
    joined = []
    for message in messages:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if joined and joined[-1][0] == message["role"]:
            joined[-1][1].extend(blocks)
        else:
            joined.append((message["role"], list(blocks)))
    return joined


def messages(body, headers, issued):
    given = body.get("messages")
    need(isinstance(given, list) and given, "messages: at least one message is required")
    for at, message in enumerate(given):
        known(message, ("role", "content"), f"messages.{at}")
        role = message.get("role")
        # Claude Code says so itself where its beta header does.
        allowed = ("user", "assistant", "system") if headers.get("anthropic-beta") else ("user", "assistant")
        need(role in allowed, f"messages.{at}.role: {role!r}")
        content = message.get("content")
        need(isinstance(content, (str, list)), f"messages.{at}.content: Field required")
        need(content or at == len(given) - 1 and role == "assistant", f"messages.{at}: all messages must have non-empty content")
        for number, block in enumerate(content if isinstance(content, list) else []):
            check_block(block, f"messages.{at}.content.{number}", issued)
    turns = merged([message for message in given if message["role"] != "system"])
    need(turns[0][0] == "user", "messages: first message must use the \"user\" role")
    takes_prefill = re.match(r"claude-(sonnet|haiku|opus)-4-[0-5]", body["model"]) and not thinks(body)
    need(takes_prefill or turns[-1][0] == "user", "This model does not support assistant message prefill. The conversation must end with a user message.")
    asked = []
    for at, (role, blocks) in enumerate(turns):
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        for one in answered:
            need(one in asked, f"messages.{at}: unexpected `tool_use_id` found in `tool_result` blocks: {one}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message")
            need(answered.count(one) == 1, f"messages.{at}: each tool_use must have a single result: {one}")
        missing = [one for one in asked if one not in answered]
        need(not missing, f"messages.{at - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: {missing}")
        kinds = [block["type"] for block in blocks]
        need(kinds[: len(answered)] == ["tool_result"] * len(answered), f"messages.{at}: tool_result blocks must come first: {kinds}")
        asked = [block["id"] for block in blocks if block["type"] == "tool_use"]
        need(not asked or role == "assistant", f"messages.{at}: tool_use of {role}")
        need(len(set(asked)) == len(asked), f"messages.{at}: `tool_use` ids must be unique")


def check_block(block, where, issued):
    kind = block.get("type")
    need(kind in BLOCKS, f"{where}: Input tag {kind!r} found using 'type' does not match any of the expected tags")
    known(block, ["type", *BLOCKS[kind].split()], where)
    if kind == "text":
        need(block.get("text", "").strip(), f"{where}: text content blocks must contain non-whitespace text")
    if kind == "thinking":
        need(block.get("signature") in issued, f"{where}: Invalid `signature` in `thinking` block: {block.get('signature')!r}")
    if kind == "tool_use":
        need(isinstance(block.get("input"), dict), f"{where}.input: Input should be a valid dictionary")
        need(ID.fullmatch(block.get("id", "")), f"{where}.id: String should match pattern '{ID.pattern}'")
        need(NAME.fullmatch(block.get("name", "")), f"{where}.name: {block.get('name')!r}")
    if kind == "tool_result":
        need(ID.fullmatch(block.get("tool_use_id", "")), f"{where}.tool_use_id: {block.get('tool_use_id')!r}")
        for part in block["content"] if isinstance(block.get("content"), list) else []:
            need(part.get("type") in ("text", "image", "document", "search_result", "tool_reference"), f"{where}.content: {part.get('type')!r}")
            need(part["type"] != "text" or part.get("text"), f"{where}.content: text content blocks must be non-empty")


def read(body):
    asked = Asked(bool(body.get("stream")), {tool["name"]: tool.get("input_schema", {}) for tool in body.get("tools", [])})
    for _, blocks in merged(body["messages"]):
        for block in blocks:
            if block["type"] == "tool_use":
                asked.calls.append(Call(block["id"], block["name"], block["input"]))
            if block["type"] == "tool_result":
                asked.results.append(Result(block["tool_use_id"], None, text_of(block.get("content"))))
                asked.pictures += pictures(block.get("content"))
            if block["type"] == "thinking":
                asked.seals.append(block["signature"])
        asked.pictures += pictures(blocks)
    asked.schema = ((body.get("output_config") or {}).get("format") or body.get("output_format") or {}).get("schema")
    return asked


def pictures(blocks):
    found = [block["source"] for block in blocks if block["type"] == "image"] if isinstance(blocks, list) else []
    for source in found:
        need(source.get("type") == "base64" and source.get("media_type", "").startswith("image/"), f"image.source: {dumps(source)[:80]}")
    return [source["data"] for source in found]


def thinks(body):
    return (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")


def blocks_of(body, turn):
    blocks = []
    if turn.thought and thinks(body):
        blocks.append({"type": "thinking", "thinking": turn.thought, "signature": turn.seal})
    if turn.text:
        blocks.append({"type": "text", "text": turn.text})
    return blocks + [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.given} for call in turn.calls]


def message(body, turn, content, stop):
    usage = {"input_tokens": 120, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 24, "service_tier": "standard"}
    return {"id": f"msg_01Polygate{turn.number:014d}", "type": "message", "role": "assistant", "model": body["model"], "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage}


def stop_of(turn):
    return "tool_use" if turn.calls else "end_turn"


def answer(body, turn):
    return message(body, turn, blocks_of(body, turn), stop_of(turn))


def events(body, turn):
    yield named({"type": "message_start", "message": message(body, turn, [], None)})
    for at, block in enumerate(blocks_of(body, turn)):
        kind = block["type"]
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}[kind]
        yield named({"type": "content_block_start", "index": at, "content_block": {**block, **empty}})
        yield named({"type": "ping"})
        deltas = {
            "text": lambda: [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])],
            "thinking": lambda: [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
            + [{"type": "signature_delta", "signature": block["signature"]}],
            "tool_use": lambda: [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces(dumps(block["input"]))]],
        }[kind]()
        for delta in deltas:
            yield named({"type": "content_block_delta", "index": at, "delta": delta})
        yield named({"type": "content_block_stop", "index": at})
    yield named({"type": "message_delta", "delta": {"stop_reason": stop_of(turn), "stop_sequence": None}, "usage": {"output_tokens": 24}})
    yield named({"type": "message_stop"})


def error(message):
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}, "request_id": "req_polygate"}
