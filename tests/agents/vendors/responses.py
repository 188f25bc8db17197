"""OpenAI Responses."""

import json
import re

from . import Asked, Call, Result, dumps, inline, known, named, need, pieces, text_of
from .chat import BUSY as BUSY, call_id as call_id
from .chat import check_schema, error as error

REQUEST = """model input instructions stream stream_options tools tool_choice parallel_tool_calls max_output_tokens max_tool_calls
    temperature top_p top_logprobs reasoning text include store previous_response_id conversation prompt metadata user background
    service_tier truncation prompt_cache_key prompt_cache_retention safety_identifier client_metadata context_management""".split()
TOOLS = "function custom namespace web_search web_search_preview image_generation tool_search file_search code_interpreter mcp computer_use_preview local_shell shell apply_patch".split()
MESSAGE_PARTS = {
    "user": ("input_text", "input_image", "input_file"),
    "system": ("input_text", "input_image", "input_file"),
    "developer": ("input_text", "input_image", "input_file"),
    "assistant": ("output_text", "refusal"),
}
PREFIX = {"message": "msg", "function_call": "fc", "custom_tool_call": "ctc", "reasoning": "rs", "tool_search_call": "tsc", "tool_search_output": "tso"}
NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def check(body, headers, issued):
    need(headers.get("authorization", "").startswith("Bearer "), "You didn't provide an API key")
    known(body, REQUEST, "Unknown parameter")
    need(body.get("max_output_tokens", 16) >= 16, "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16")
    names = set()
    for at, tool in enumerate(offered(body)):
        need(tool.get("type") in TOOLS, f"tools[{at}].type: {tool.get('type')!r}")
        if tool["type"] == "function":
            known(tool, "type name description parameters strict defer_loading output_schema namespace".split(), f"tools[{at}]")
            need(NAME.fullmatch(tool.get("name", "")), f"tools[{at}].name: {tool.get('name')!r}")
            name = (tool.get("namespace"), tool["name"])
            need(name not in names, f"tools[{at}]: two tools called {name!r}")
            names.add(name)
            # Left out, `strict` is true for OpenAI, but then its server mends the schema itself.
            check_schema(tool.get("parameters"), tool.get("strict") is True, tool["name"])
    items(body.get("input"), issued)


def offered(body):
    """The tools of a request: those of its history and those that it found, and those of namespaces, each of which says which it is of, too."""
    given = list(body.get("tools", []))
    for item in body["input"] if isinstance(body.get("input"), list) else []:
        if item.get("type") in ("additional_tools", "tool_search_output"):
            given += item["tools"]
    for tool in given:
        yield from [{**one, "namespace": tool["name"]} for one in tool["tools"]] if tool.get("type") == "namespace" else [tool]


def is_clients_search(it):
    return it.get("type") in ("tool_search", "tool_search_call", "tool_search_output") and it.get("execution") == "client"


def spaced(item):
    """A name with its namespace before it."""
    return f"{item['namespace']}__{item['name']}" if item.get("namespace") else item["name"]


def items(given, issued):
    need(given, "input: required")
    waiting = {}
    for at, item in enumerate(given if isinstance(given, list) else []):
        kind = item.get("type", "message")
        where = f"input[{at}]"
        if item.get("id") and kind in PREFIX:
            need(item["id"].startswith(PREFIX[kind]), f"Invalid '{where}.id': '{item['id']}'. Expected an ID that begins with '{PREFIX[kind]}'.")
        if kind == "message":
            need(item.get("role") in MESSAGE_PARTS, f"{where}.role: {item.get('role')!r}")
            content = item.get("content")
            need(content is not None, f"{where}.content: required")
            for part in content if isinstance(content, list) else []:
                need(part.get("type") in MESSAGE_PARTS[item["role"]], f"{where}.content: {part.get('type')!r} in a message of {item['role']}")
        elif kind in ("function_call", "custom_tool_call"):
            one = item.get("call_id", "")
            need(len(one) in range(1, 65), f"{where}.call_id: string too long or empty: {one!r}")
            need(one not in waiting, f"{where}.call_id: twice: {one!r}")
            need(NAME.fullmatch(item.get("name", "")), f"{where}.name: {item.get('name')!r}")
            if kind == "function_call":
                json.loads(item["arguments"])
            else:
                need(isinstance(item.get("input"), str), f"{where}.input: required")
            waiting[one] = f"{kind}_output"
        elif kind in ("function_call_output", "custom_tool_call_output"):
            need(waiting.get(item.get("call_id")) == kind, f"No tool call found for {kind} with call_id {item.get('call_id')}.")
            waiting[item["call_id"]] = None
            for part in item["output"] if isinstance(item.get("output"), list) else []:
                need(part.get("type") in ("input_text", "input_image", "input_file"), f"{where}.output: {part.get('type')!r}")
        elif is_clients_search(item):
            one = item.get("call_id")
            is_call = kind == "tool_search_call"
            need(one and (waiting.get(one) == "tool_search_output") != is_call, f"{where}.call_id: {one!r}")
            need(isinstance(item.get("arguments" if is_call else "tools"), dict if is_call else list), f"{where}: {sorted(item)}")
            waiting[one] = "tool_search_output" if is_call else None
        elif kind == "reasoning":
            sealed = item.get("encrypted_content")
            need(sealed in issued, f"The encrypted content for item {item.get('id')} could not be verified ({sealed!r})")
        else:
            need(kind in ("additional_tools", "web_search_call"), f"{where}: Invalid value: {kind!r}")
    missing = [one for one, answer in waiting.items() if answer]
    need(not missing, f"No tool output found for function call {missing}.")


def read(body):
    tools = {}
    for tool in offered(body):
        if tool["type"] == "function":
            tools[spaced(tool)] = tool.get("parameters") or {}
        if tool["type"] == "custom":
            tools[spaced(tool)] = None
        if is_clients_search(tool):
            tools["tool_search"] = tool["parameters"]
    asked = Asked(bool(body.get("stream")), tools)
    for item in body["input"] if isinstance(body["input"], list) else []:
        kind = item.get("type", "message")
        if kind == "function_call":
            asked.calls.append(Call(item["call_id"], spaced(item), json.loads(item["arguments"])))
        if kind == "custom_tool_call":
            asked.calls.append(Call(item["call_id"], spaced(item), item["input"]))
        if is_clients_search(item) and kind == "tool_search_call":
            asked.calls.append(Call(item["call_id"], "tool_search", item["arguments"]))
        if is_clients_search(item) and kind == "tool_search_output":
            asked.results.append(Result(item["call_id"], None, dumps(item["tools"])))
        if kind in ("function_call_output", "custom_tool_call_output"):
            asked.results.append(Result(item["call_id"], None, text_of(item["output"])))
        if kind == "reasoning":
            asked.seals.append(item["encrypted_content"])
        for part in item.get("content") or item.get("output") or []:
            if isinstance(part, dict) and part.get("type") == "input_image":
                asked.pictures.append(inline(part["image_url"]))
    asked.schema = (body.get("text") or {}).get("format", {}).get("schema")
    return asked


def output(body, turn, done=True):
    """The items of the answer."""
    state = "completed" if done else "in_progress"
    if turn.thought:
        item = {"id": f"rs_polygate{turn.number}", "type": "reasoning", "summary": [{"type": "summary_text", "text": turn.thought}] if done else []}
        if "reasoning.encrypted_content" in body.get("include", []):
            item["encrypted_content"] = turn.seal
        yield item
    if turn.text:
        part = {"type": "output_text", "text": turn.text, "annotations": [], "logprobs": []}
        yield {"id": f"msg_polygate{turn.number}", "type": "message", "status": state, "role": "assistant", "content": [part] if done else []}
    for call in turn.calls:
        space, _, name = call.name.rpartition("__")
        named = {"call_id": call.id, "name": name, **({"namespace": space} if space else {})}
        if call.name == "tool_search":
            yield {"id": f"tsc_{call.id}", "type": "tool_search_call", "status": state, "call_id": call.id, "execution": "client", "arguments": call.given if done else {}}
        elif isinstance(call.given, str):
            yield {"id": f"ctc_{call.id}", "type": "custom_tool_call", "status": state, **named, "input": call.given if done else ""}
        else:
            yield {"id": f"fc_{call.id}", "type": "function_call", "status": state, **named, "arguments": dumps(call.given) if done else ""}


def response(body, turn, status):
    used = {
        "input_tokens": 120,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 24,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 144,
    }
    return {
        "id": f"resp_polygate{turn.number}",
        "object": "response",
        "created_at": 1750000000,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": body["model"],
        "output": list(output(body, turn)) if status == "completed" else [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": used if status == "completed" else None,
        "metadata": {},
    }


def answer(body, turn):
    return response(body, turn, "completed")


def events(body, turn):
    for number, event in enumerate(plain_events(body, turn)):
        yield named({**event, "sequence_number": number})


def plain_events(body, turn):
    yield {"type": "response.created", "response": response(body, turn, "in_progress")}
    yield {"type": "response.in_progress", "response": response(body, turn, "in_progress")}
    for at, (begun, item) in enumerate(zip(output(body, turn, done=False), output(body, turn), strict=True)):
        here = {"item_id": item["id"], "output_index": at}
        yield {"type": "response.output_item.added", "output_index": at, "item": begun}
        yield from {"reasoning": thought_events, "message": text_events, "tool_search_call": lambda *_: ()}.get(item["type"], call_events)(item, here)
        yield {"type": "response.output_item.done", "output_index": at, "item": item}
    yield {"type": "response.completed", "response": response(body, turn, "completed")}


def thought_events(item, here):
    here = {**here, "summary_index": 0}
    text = item["summary"][0]["text"]
    yield {"type": "response.reasoning_summary_part.added", **here, "part": {"type": "summary_text", "text": ""}}
    for piece in pieces(text):
        yield {"type": "response.reasoning_summary_text.delta", **here, "delta": piece}
    yield {"type": "response.reasoning_summary_text.done", **here, "text": text}
    yield {"type": "response.reasoning_summary_part.done", **here, "part": item["summary"][0]}


def text_events(item, here):
    here = {**here, "content_index": 0}
    part = item["content"][0]
    yield {"type": "response.content_part.added", **here, "part": {**part, "text": ""}}
    for piece in pieces(part["text"]):
        yield {"type": "response.output_text.delta", **here, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **here, "text": part["text"], "logprobs": []}
    yield {"type": "response.content_part.done", **here, "part": part}


def call_events(item, here):
    kind, member = ("custom_tool_call_input", "input") if item["type"] == "custom_tool_call" else ("function_call_arguments", "arguments")
    for piece in pieces(item[member]):
        yield {"type": f"response.{kind}.delta", **here, "delta": piece}
    yield {"type": f"response.{kind}.done", **here, member: item[member]}
