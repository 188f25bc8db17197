"""Answers and streams as the official SDKs' own types and accumulators see them, strictly.

Each format is a class with `answer(body)` and `stream(text)`. Both note what is wrong in `self.bad` and return a
digest: what of an answer must be the same whether it came whole or as a stream. A stream that properly ends in an error event
has no digest (`self.errored`). Extra members are allowed where the SDK's types allow them (OpenAI, Anthropic: any; Gemini: none).
"""

import hashlib
import json
import re
import warnings
from types import SimpleNamespace
from typing import get_args

import anthropic.types
import google.genai.types
import httpx2
import openai.types
import openai.types.chat
import openai.types.responses
from anthropic._models import construct_type as anthropic_construct
from anthropic._streaming import SSEDecoder as AnthropicDecoder
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types.shared import ErrorResponse
from google.genai._api_client import HttpResponse
from openai._models import construct_type as openai_construct
from openai._streaming import SSEDecoder as OpenAIDecoder
from openai._types import omit
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.lib.streaming.responses._responses import ResponseStreamState
from pydantic import TypeAdapter, ValidationError


# What recorded native answers lack because they are older than the SDK. A translated answer is ours and has every member.
OLDER = (
    "usage.input_tokens_details.cache_write_tokens: Field required",
    "usage.server_tool_use.web_fetch_requests: Field required",
    "content_block.ThinkingBlock.signature: Field required",
    "item.ResponseFunctionWebSearch.action: Field required",
)
# What live answers have and the SDK's type does not know.
UNKNOWN = (
    # Dropped by the SDK; the corpus has it on most answers of late 2026.
    "usageMetadata.serviceTier: Extra inputs are not permitted",
    # Whole answers have them (and the SDK knows it), so do chunks: openai/openai-openapi#576. Only who offers such tools gets them.
    "delta.tool_calls: no member of the union has this type ('custom')",
)


class Stop(Exception):
    """There is no point in reading on; what is wrong has been noted."""


def union(alias):
    """{tag: type} of a union of events told apart by `type`."""
    members = get_args(get_args(alias)[0])
    return {get_args(each.model_fields["type"].annotation)[0]: Checked(each) for each in members}


def sse(decoder, text):
    return list(decoder.iter_bytes(iter([text.encode()])))


# Anthropic's advice for input that is no JSON; a stream has passed it on as it came before that is known.
INVALID = "INVALID_JSON"


def parsed(text):
    """The JSON value of a tool call's arguments; a text that is none stays as it is."""
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text


def condensed(error):
    """pydantic's errors, without those about members of a union that were not meant, and without what differs by the answer."""
    errors = error.errors(include_url=False, include_context=False)
    wrong = {each["loc"][:-1] for each in errors if each["type"] in ("literal_error", "missing") and each["loc"][-1:] == ("type",)}
    others = [each for each in errors if not any(each["loc"][:at] in wrong for at in range(1, len(each["loc"]) + 1))]
    # A union of which no member was meant: one line about the tag.
    tags = [each for each in errors if each["loc"][-1:] == ("type",) and each["loc"][:-1] in wrong and not entered(each["loc"][:-2], others)]
    tags = [each for each in tags if not any(each["loc"][:at] in wrong for at in range(1, len(each["loc"]) - 1))]
    told = {f"{path(each['loc'][:-2])}: {tag(each)}": None for each in tags}
    for each in others:
        # What says only that a member is none of the plain alternatives of a union (a text, a list) is noise beside the rest.
        if len(others) == 1 or not re.match(r"(str|list\[.*|function-.*)$", str(each["loc"][-1])):
            told[f"{path(each['loc'])}: {each['msg']}{shown(each)}"] = None
    return list(told) or [f"{path(each['loc'])}: {each['msg']}" for each in errors[:1]]


def entered(at, errors):
    return any(each["loc"][: len(at)] == at for each in errors)


def tag(error):
    return "no member of the union has this type" + (shown(error) if error["type"] == "literal_error" else " (none given)")


def shown(error):
    value = error["input"]
    return f" ({value!r:.60})" if error["type"] in ("literal_error", "enum") and isinstance(value, str) else ""


def path(loc):
    return ".".join("*" if isinstance(step, int) else str(step) for step in loc) or "(top)"


class Checked:
    """A type of an SDK and its strict reading."""

    def __init__(self, type_):
        self.type, self.strict = type_, TypeAdapter(type_)


class Format:
    construct = None

    def __init__(self, native=False):
        self.bad, self.errored, self.native = [], False, native

    def note(self, fault):
        self.bad.append(fault)

    def need(self, good, fault):
        if not good:
            self.note(fault)
        return good

    def valid(self, checked, body, what=""):
        try:
            return checked.strict.validate_json(body, strict=True)
        except ValidationError as error:
            if self.told(error, what):
                raise Stop from None
        return self.construct(type_=checked.type, value=json.loads(body))

    def told(self, error, what=""):
        """Whether an error has anything in it that is not tolerated."""
        tolerated = OLDER if self.native else ()
        faults = [each for each in condensed(error) if not each.endswith(tolerated + UNKNOWN)]
        for each in faults:
            self.note(f"{what}{each}")
        return bool(faults)

    def load(self, body, what=""):
        try:
            value = json.loads(body)
        except ValueError as error:
            self.note(f"{what}not JSON: {error.msg}")
            raise Stop from None
        if not isinstance(value, dict):
            self.note(f"{what}not an object")
            raise Stop
        return value

    def run(self, method, body):
        """`answer` or `stream`, to whatever end."""
        try:
            return getattr(self, method)(body)
        except Stop:
            return None
        except Exception as error:  # the SDK's accumulators assert, index and raise what they like
            self.note(f"the SDK fails: {type(error).__name__}: {re.sub(r'[0-9a-fA-F-]{16,}|[0-9]+', 'N', str(error))[:120]}")
            return None

    def framed(self, text):
        self.need(text.endswith(("\n\n", "\r\n\r\n")), "the last event is not ended by an empty line (most SDKs drop it)")

    def sums(self, usage, total, *parts):
        """SDK users add and subtract these."""
        if usage is not None:
            self.need(usage[total] == sum(usage[part] for part in parts), f"usage: {total} is not {' + '.join(parts)}")


def numbers(usage, **members):
    """The numbers of a usage under names of ours; one that is absent or null is 0, no usage at all is none."""
    found = {}
    for name, at in members.items():
        value = usage
        for step in at.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        found[name] = value or 0
    return found if usage else None


class Chat(Format):
    construct = staticmethod(openai_construct)
    whole = Checked(openai.types.chat.ChatCompletion)
    chunk = Checked(openai.types.chat.ChatCompletionChunk)

    def answer(self, body):
        self.valid(self.whole, body)
        return self.read(json.loads(body))

    def read(self, answer):
        """Beyond the types: what the API description requires, what clients rely on."""
        self.need(answer["id"], "id is empty")
        self.need(answer["choices"], "no choices")
        self.need([choice["index"] for choice in answer["choices"]] == list(range(len(answer["choices"]))), "choices are not 0, 1, 2, ...")
        digest = {}
        for choice in answer["choices"]:
            message, at = choice["message"], f"choices.{choice['index']}"
            self.need("content" in message, "message has no `content` (null is one)")
            calls = message.get("tool_calls") or []
            self.need(choice["finish_reason"] != "tool_calls" or calls, "finish_reason is tool_calls without tool calls")
            self.need(all(call["id"] for call in calls), "a tool call's id is empty")
            self.need(len({call["id"] for call in calls}) == len(calls), "tool calls share an id")
            digest[f"{at}.finish_reason"] = choice["finish_reason"]
            digest[f"{at}.text"] = message.get("content") or ""
            digest[f"{at}.refusal"] = message.get("refusal") or ""
            digest[f"{at}.reasoning"] = message.get("reasoning_content") or message.get("reasoning") or ""
            digest[f"{at}.calls"] = [
                [call["function"]["name"], parsed(call["function"]["arguments"])]
                if call["type"] == "function"
                else [call["custom"]["name"], call["custom"]["input"]]
                for call in calls
            ]
        usage = numbers(
            answer.get("usage"),
            prompt_tokens="prompt_tokens",
            completion_tokens="completion_tokens",
            total_tokens="total_tokens",
            cached="prompt_tokens_details.cached_tokens",
            reasoning="completion_tokens_details.reasoning_tokens",
        )
        self.sums(usage, "total_tokens", "prompt_tokens", "completion_tokens")
        return digest | {"usage": usage}

    def stream(self, text):
        self.framed(text)
        state, first, last = ChatCompletionStreamState(), None, None
        roles, finished, calls, counted = set(), set(), {}, False
        events = sse(OpenAIDecoder(), text)
        for at, event in enumerate(events):
            last = event.data
            self.need(event.event is None, "an event has a name")
            if event.data.startswith("[DONE]"):
                self.need(event.data == "[DONE]", "[DONE] is followed by something")
                self.need(at == len(events) - 1, "[DONE] is not last")
                break
            raw = self.load(event.data)
            if raw.get("error"):
                return self.failed(raw["error"], at == len(events) - 1)
            chunk = self.valid(self.chunk, event.data, "chunk ")
            if first is None:
                first = chunk
                self.need(chunk.id, "id is empty")
                self.need(chunk.choices and chunk.choices[0].delta.role == "assistant", "the first chunk has no role")
            for same in ("id", "created", "model"):
                self.need(getattr(chunk, same) == getattr(first, same), f"{same} differs between chunks")
            if chunk.usage is not None:
                self.need(not counted, "two chunks have usage")
                self.need(finished, "usage before finish_reason")
                self.need(not chunk.choices, "usage in a chunk with choices")
                counted = True
            elif not chunk.choices:
                self.note("a chunk has neither choices nor usage")
            for choice in chunk.choices:
                delta, index = choice.delta, choice.index
                self.need(not counted, "a choice after usage")
                if delta.role is not None:
                    self.need(index not in roles, "role is said twice (SDKs concatenate it)")
                    roles.add(index)
                self.need(index in roles, "a choice does not begin with its role")
                if index in finished:
                    self.need(not (delta.content or delta.tool_calls or delta.refusal), "a delta after finish_reason")
                    self.need(choice.finish_reason is None, "two finish_reasons for a choice")
                if choice.finish_reason is not None:
                    finished.add(index)
                for call in delta.tool_calls or []:
                    known = calls.setdefault(index, set())
                    if call.index in known:
                        self.need(not call.id and not (call.function and call.function.name), "a tool call's id or name is said twice (SDKs concatenate it)")
                    else:
                        self.need(call.index == len(known), "tool call indices are not 0, 1, 2, ...")
                        named = call.id and call.type and (call.type != "function" or call.function and call.function.name)
                        self.need(named, "a tool call does not begin with id, type and name")
                        known.add(call.index)
            list(state.handle_chunk(chunk))
        self.need(last == "[DONE]", "no [DONE] at the end")
        if not self.need(first is not None, "no chunk at all"):
            return None
        answer = state.current_completion_snapshot.to_dict()
        indices = {choice["index"] for choice in answer["choices"]}
        self.need(finished == indices, "a choice has no finish_reason")
        for choice in answer["choices"]:
            choice["message"].setdefault("content", None)
        answer["object"] = "chat.completion"
        self.valid(self.whole, json.dumps(answer), "accumulated ")
        return self.read(answer)

    def failed(self, error, last):
        self.need(isinstance(error, dict) and isinstance(error.get("message"), str), "the error event has no message")
        self.need(last, "something follows the error event")
        self.errored = True


class Completions(Format):
    construct = staticmethod(openai_construct)
    whole = Checked(openai.types.Completion)

    def answer(self, body):
        self.valid(self.whole, body)
        return self.read([json.loads(body)])

    def read(self, told):
        """A completion, or the chunks of one; the SDK has one type for both."""
        choices = [choice for each in told for choice in each["choices"]]
        self.need(all(each["id"] for each in told), "id is empty")
        self.need(choices and all(choice["index"] == 0 for choice in choices), "not one choice, 0")
        reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
        self.need(len(reasons) == 1 and choices[-1]["finish_reason"], "no finish_reason at the end, once")
        usages = [each["usage"] for each in told if each.get("usage")]
        self.need(len(usages) < 2, "usage is said twice")
        usage = numbers(usages[-1] if usages else None, prompt_tokens="prompt_tokens", completion_tokens="completion_tokens", total_tokens="total_tokens")
        self.sums(usage, "total_tokens", "prompt_tokens", "completion_tokens")
        return {"finish_reason": reasons[:1], "text": "".join(choice["text"] for choice in choices), "usage": usage}

    def stream(self, text):
        self.framed(text)
        told, events = [], sse(OpenAIDecoder(), text)
        for at, event in enumerate(events):
            self.need(event.event is None, "an event has a name")
            if event.data == "[DONE]":
                self.need(at == len(events) - 1, "[DONE] is not last")
                break
            raw = self.load(event.data)
            if raw.get("error"):
                self.need(at == len(events) - 1, "something follows the error event")
                self.errored = True
                return None
            # The type wants a reason in every chunk; OpenAI's own say null until the last.
            reasons = [choice | {"finish_reason": choice.get("finish_reason") or "stop"} for choice in raw.get("choices", [])]
            self.valid(self.whole, json.dumps(raw | {"choices": reasons}), "chunk ")
            self.need(raw["choices"] or raw.get("usage"), "a chunk has neither choices nor usage")
            told.append(raw)
        self.need(events and events[-1].data == "[DONE]", "no [DONE] at the end")
        return self.read(told)


# Deltas of Responses: what they build, and in which list of the item it stands.
DELTAS = {
    "response.output_text": ("content", "text"),
    "response.refusal": ("content", "refusal"),
    "response.reasoning_text": ("content", "text"),
    "response.reasoning_summary_text": ("summary", "text"),
    "response.function_call_arguments": (None, "arguments"),
    "response.custom_tool_call_input": (None, "input"),
    "response.mcp_call_arguments": (None, "arguments"),
}
PARTS = {"response.content_part": "content", "response.reasoning_summary_part": "summary"}
ENDS = {"response.completed", "response.incomplete", "response.failed"}


class Responses(Format):
    construct = staticmethod(openai_construct)
    whole = Checked(openai.types.responses.Response)
    events = union(openai.types.responses.ResponseStreamEvent)

    def answer(self, body):
        self.valid(self.whole, body)
        return self.read(json.loads(body))

    def read(self, answer):
        self.need(answer["id"], "id is empty")
        self.need(answer.get("status") in ("completed", "incomplete", "failed"), f"status of a whole answer is {answer.get('status')}")
        self.need((answer.get("status") == "incomplete") == bool((answer.get("incomplete_details") or {}).get("reason")), "status incomplete and incomplete_details.reason do not go together")
        output = answer["output"]
        ids = [item["id"] for item in output if item.get("id")]
        self.need(len(set(ids)) == len(ids), "output items share an id")
        self.need(all(item.get("id") for item in output if item["type"] in ("message", "reasoning", "function_call")), "an output item has no id")
        messages = [part for item in output if item["type"] == "message" for part in item["content"]]
        thoughts = [item for item in output if item["type"] == "reasoning"]
        usage = numbers(
            answer.get("usage"),
            input_tokens="input_tokens",
            output_tokens="output_tokens",
            total_tokens="total_tokens",
            cached="input_tokens_details.cached_tokens",
            reasoning="output_tokens_details.reasoning_tokens",
        )
        self.sums(usage, "total_tokens", "input_tokens", "output_tokens")
        return {
            "status": answer.get("status"),
            "incomplete_details.reason": (answer.get("incomplete_details") or {}).get("reason"),
            "text": "".join(part["text"] for part in messages if part["type"] == "output_text"),
            "refusal": "".join(part["refusal"] for part in messages if part["type"] == "refusal"),
            "reasoning": "".join(part["text"] for item in thoughts for part in [*item["summary"], *(item.get("content") or [])]),
            "calls": [
                [item["name"], parsed(item["arguments"])] if item["type"] == "function_call" else [item["name"], item["input"]]
                for item in output
                if item["type"] in ("function_call", "custom_tool_call")
            ],
            "usage": usage,
        }

    def stream(self, text):
        self.framed(text)
        state = ResponseStreamState(input_tools=omit, text_format=omit)
        events = sse(OpenAIDecoder(), text)
        items, final = [], None
        for at, event in enumerate(events):
            if not self.need(not event.data.startswith("[DONE]"), "[DONE] in a stream of Responses"):
                break
            raw = self.load(event.data)
            kind = raw.get("type")
            self.need(event.event == kind, "an event's name is not its type")
            if kind not in self.events:
                self.note(f"unknown event {kind}")
                raise Stop
            known = self.valid(self.events[kind], event.data, f"{kind} ")
            self.need(raw.get("sequence_number") == at, "sequence_numbers are not 0, 1, 2, ...")
            self.need((kind == "response.created") == (at == 0), "response.created is not the first event, once")
            self.need(final is None, "an event after the end")
            if kind == "error":
                self.need(at == len(events) - 1, "something follows the error event")
                self.errored = True
                return None
            if kind in ("response.created", "response.in_progress", "response.queued"):
                self.need(not items, f"{kind} after output")
                self.need(raw["response"].get("status") in ("in_progress", "queued"), f"{kind} with status {raw['response'].get('status')}")
                self.need(not raw["response"]["output"], f"{kind} with output")
            if kind in ENDS:
                final = raw["response"]
                self.need(final.get("status") == kind.removeprefix("response."), f"{kind} with status {final.get('status')}")
            self.bracket(kind, raw, items)
            state.handle_event(known)
        if not self.need(final is not None, "no response.completed, .incomplete or .failed at the end"):
            return None
        if final.get("status") == "failed":
            self.need((final.get("error") or {}).get("message"), "response.failed has no error")
            self.errored = True
            return None
        for item in items:
            self.need(item.done is not None, "an output item is not done")
        self.need([sealed(item.done) for item in items] == [sealed(item) for item in final["output"]], "the final response's output is not the items that were done")
        return self.read(final)

    def bracket(self, kind, raw, items):
        """Items hold parts, parts hold deltas; each is opened, filled, done, in order."""
        if kind == "response.output_item.added":
            self.need(raw["output_index"] == len(items), "output_index does not count up")
            items.append(SimpleNamespace(added=raw["item"], done=None, parts={}))
            return
        if "output_index" not in raw:
            return
        if not self.need(raw["output_index"] < len(items), f"{kind} before its output_item.added"):
            raise Stop
        item = items[raw["output_index"]]
        self.need(item.done is None, f"{kind} after its output_item.done")
        if "item_id" in raw:
            self.need(raw["item_id"] == item.added.get("id"), f"{kind}: item_id is not the item's")
        base, _, step = kind.rpartition(".")
        if kind == "response.output_item.done":
            item.done = raw["item"]
            self.need(item.done.get("id") == item.added.get("id") and item.done["type"] == item.added["type"], "an item changes id or type until it is done")
            for (where, at), part in item.parts.items():
                self.need(part.done is not None, f"a {where or 'call'} part is not done in its item")
                told = item.done.get(where) if where else [item.done]
                if self.need(told and len(told) > at, f"the done item lacks a {where} part"):
                    self.need(told[at].get(part.member) == part.text, f"{part.member} of the done item is not its deltas")
            for where in ("content", "summary"):
                told = item.done.get(where)
                if item.done["type"] in ("message", "reasoning") and isinstance(told, list):
                    self.need(len(told) == sum(w == where for w, _ in item.parts), f"{where} parts of the done item were not all streamed ({item.done['type']})")
            if item.done["type"] == "function_call" and item.done["arguments"]:
                self.need(item.parts, "the done function_call's arguments were not streamed")
        elif base in PARTS:
            where = PARTS[base]
            at = raw["content_index" if where == "content" else "summary_index"]
            if step == "added":
                self.need(at == sum(w == where for w, _ in item.parts), f"{where} index does not count up")
                member = "refusal" if raw["part"]["type"] == "refusal" else "text"
                item.parts[where, at] = SimpleNamespace(text=raw["part"].get(member) or "", member=member, done=None, closed=False)
            elif self.need((where, at) in item.parts, f"{kind} before its {base}.added"):
                part = item.parts[where, at]
                self.need(raw["part"].get(part.member) == part.text, f"the done part's {part.member} is not its deltas")
                self.need(part.done is not None or not part.text, f"{kind} before the text is done")
                part.done, part.closed = part.text, True
        elif base in DELTAS:
            where, member = DELTAS[base]
            at = raw["content_index"] if where == "content" else raw["summary_index"] if where == "summary" else 0
            if where is None and (where, at) not in item.parts:
                item.parts[where, at] = SimpleNamespace(text=item.added.get(member) or "", member=member, done=None, closed=False)
            if not self.need((where, at) in item.parts, f"{kind} before its part was added"):
                raise Stop
            part = item.parts[where, at]
            self.need(part.done is None, f"{kind} after its text was done")
            if step == "delta":
                part.text += raw["delta"]
            else:
                self.need(raw[member] == part.text, f"{kind}: {member} is not the deltas")
                part.done = part.text


def sealed(item):
    """An item without what OpenAI seals anew each time it tells it."""
    return {name: value for name, value in (item or {}).items() if name not in ("encrypted_content", "fingerprint")}


class Anthropic(Format):
    construct = staticmethod(anthropic_construct)
    whole = Checked(anthropic.types.Message)
    events = union(anthropic.types.RawMessageStreamEvent)
    error = Checked(ErrorResponse)
    # What a block takes.
    fills = {
        "text": {"text_delta", "citations_delta"},
        "thinking": {"thinking_delta", "signature_delta"},
        "tool_use": {"input_json_delta"},
        "server_tool_use": {"input_json_delta"},
        "mcp_tool_use": {"input_json_delta"},
    }

    def answer(self, body):
        self.valid(self.whole, body)
        return self.read(json.loads(body))

    def read(self, answer):
        self.need(answer["id"], "id is empty")
        self.need(answer.get("stop_reason"), "a whole answer has no stop_reason")
        self.need("stop_sequence" in answer, "no `stop_sequence` (null is one)")
        blocks = answer["content"]
        calls = [block for block in blocks if block["type"] in ("tool_use", "server_tool_use", "mcp_tool_use")]
        self.need(answer.get("stop_reason") != "tool_use" or any(block["type"] == "tool_use" for block in calls), "stop_reason is tool_use without tool_use")
        self.need(all(block["id"] for block in calls), "a tool call's id is empty")
        self.need(len({block["id"] for block in calls}) == len(calls), "tool calls share an id")
        self.need(all(isinstance(block["input"], dict) for block in calls), "a tool call's input is not an object")
        return {
            "stop_reason": answer.get("stop_reason"),
            "stop_sequence": answer.get("stop_sequence"),
            "text": "".join(block["text"] for block in blocks if block["type"] == "text"),
            "reasoning": "".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
            "calls": [[block["name"], block["input"]] for block in calls],
            "usage": numbers(
                answer["usage"],
                input_tokens="input_tokens",
                output_tokens="output_tokens",
                cache_read="cache_read_input_tokens",
                cache_creation="cache_creation_input_tokens",
            ),
        }

    def stream(self, text):
        self.framed(text)
        events = sse(AnthropicDecoder(), text)
        snapshot, buffers = None, {}
        opened, block, inputs, broken, stopping, ended = 0, None, {}, {}, False, False
        for at, event in enumerate(events):
            raw = self.load(event.data)
            kind = raw.get("type")
            self.need(event.event == kind, "an event's name is not its type")
            self.need(not ended, "an event after message_stop")
            if kind == "ping":
                continue
            if kind == "error":
                self.valid(self.error, event.data, "error ")
                self.need(at == len(events) - 1, "something follows the error event")
                self.errored = True
                return None
            if kind not in self.events:
                self.note(f"unknown event {kind}")
                raise Stop
            known = self.valid(self.events[kind], event.data, f"{kind} ")
            if not self.need((kind == "message_start") == (snapshot is None), "message_start is not the first event, once"):
                raise Stop
            match kind:
                case "message_start":
                    self.need(not raw["message"]["content"], "message_start with content")
                    self.need(raw["message"].get("stop_reason") is None, "message_start with stop_reason")
                case "content_block_start":
                    self.need(not stopping, f"{kind} after message_delta")
                    self.need(block is None, "a block starts inside another")
                    self.need(raw["index"] == opened, "block indices are not 0, 1, 2, ...")
                    block, opened = raw, opened + 1
                    for empty in ("text", "thinking"):
                        self.need(not raw["content_block"].get(empty), f"a block starts with {empty} in it")
                    if raw["content_block"]["type"] in ("tool_use", "server_tool_use"):
                        self.need(raw["content_block"]["input"] == {}, "a tool call starts with input in it")
                case "content_block_delta":
                    if not self.need(block is not None and raw["index"] == block["index"], "a delta outside its block"):
                        raise Stop
                    fits = self.fills.get(block["content_block"]["type"], set())
                    self.need(raw["delta"]["type"] in fits, f"{raw['delta']['type']} in a block of {block['content_block']['type']}")
                    if raw["delta"]["type"] == "input_json_delta":
                        inputs[raw["index"]] = inputs.get(raw["index"], "") + raw["delta"]["partial_json"]
                case "content_block_stop":
                    if self.need(block is not None and raw["index"] == block["index"], "a stop outside its block"):
                        if isinstance(text := parsed(inputs.get(raw["index"])), str):
                            broken[raw["index"]] = text
                    block = None
                case "message_delta":
                    self.need(block is None, "message_delta inside a block")
                    stopping = True
                    # Out of tokens, the model stops amid a call: the SDK reads what is there, whoever told it.
                    cut = raw["delta"]["stop_reason"] == "max_tokens"
                    self.need(cut or not broken, "input_json deltas together are not JSON")
                case "message_stop":
                    self.need(block is None, "message_stop inside a block")
                    self.need(stopping, "message_stop without message_delta")
                    ended = True
            snapshot = accumulate_event(event=known, current_snapshot=snapshot, json_bufs=buffers)
        self.need(ended, "no message_stop at the end")
        if not self.need(snapshot is not None, "no event at all"):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydantic on its own ParsedMessage
            answer = json.loads(snapshot.to_json())
        answer.setdefault("stop_sequence", None)
        self.valid(self.whole, json.dumps(answer), "accumulated ")
        for index, text in broken.items():
            answer["content"][index]["input"] = {INVALID: text}
        return self.read(answer)


class Gemini(Format):
    whole = TypeAdapter(google.genai.types.GenerateContentResponse)
    reasons = {each.value for each in google.genai.types.FinishReason}

    def answer(self, body):
        answer = self.chunk(body)
        read = Turn()
        read.add(answer)
        return self.read(read)

    def chunk(self, body):
        """One answer or chunk; names on the wire only (camelCase), no unknown members, no unknown enum values."""
        raw = self.load(body)
        if "error" in raw:
            return raw
        # The one member the SDK renames before it validates (`_Candidate_from_mldev`, `_CitationMetadata_from_mldev`).
        for candidate in raw.get("candidates") or []:
            if isinstance(candidate, dict) and "citationSources" in (candidate.get("citationMetadata") or {}):
                candidate["citationMetadata"]["citations"] = candidate["citationMetadata"].pop("citationSources")
        # google-genai takes any text for an enum, and warns.
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                self.whole.validate_python(raw, by_alias=True, by_name=False)
            except ValidationError as error:
                if self.told(error):
                    raise Stop from None
        for each in warned:
            self.note(str(each.message))
        for candidate in raw.get("candidates") or []:
            if candidate.get("finishReason") is not None:
                self.need(candidate["finishReason"] in self.reasons, f"finishReason {candidate['finishReason']}")
            for part in (candidate.get("content") or {}).get("parts") or []:
                data = set(part) - {"thought", "thoughtSignature", "videoMetadata", "partMetadata", "mediaResolution"}
                self.need(len(data) <= 1, f"a part has more than one kind of data: {sorted(data)}")
        return raw

    def read(self, turn):
        self.need(turn.reasons or turn.blocked, "no finishReason and no blockReason")
        self.need(turn.usage is not None, "no usageMetadata")
        usage = numbers(
            turn.usage,
            prompt="promptTokenCount",
            candidates="candidatesTokenCount",
            thoughts="thoughtsTokenCount",
            tool_use="toolUsePromptTokenCount",
            total="totalTokenCount",
            cached="cachedContentTokenCount",
        )
        self.sums(usage, "total", "prompt", "candidates", "thoughts", "tool_use")
        return {"finishReason": turn.reasons, "text": turn.text, "reasoning": turn.thoughts, "calls": turn.calls, "usage": usage}

    def stream(self, text):
        self.framed(text)
        response = httpx2.Response(200, stream=httpx2.ByteStream(text.encode()))
        chunks = list(HttpResponse({}, response_stream=response)._iter_response_stream())
        read, raw = Turn(), {}
        for at, chunk in enumerate(chunks):
            raw = self.chunk(chunk)
            if "error" in raw:
                error = raw["error"]
                told = isinstance(error, dict) and isinstance(error.get("code"), int) and isinstance(error.get("message"), str) and isinstance(error.get("status"), str)
                self.need(told, "the error chunk has not code, message and status")
                # It is said twice, for two kinds of clients.
                rest = chunks[at + 1 :]
                self.need(all(self.chunk(each) == raw for each in rest), "something follows the error chunk")
                self.errored = True
                return None
            if at < len(chunks) - 1:
                self.need(not any(each.get("finishReason") for each in raw.get("candidates") or []), "finishReason before the last chunk")
            read.add(raw)
        if not self.need(chunks, "no chunk at all"):
            return None
        self.need(any(each.get("finishReason") for each in raw.get("candidates") or []) or read.blocked, "the last chunk has no finishReason")
        self.need("usageMetadata" in raw, "the last chunk has no usageMetadata")
        return self.read(read)


class Turn:
    """Gemini's chunks put together; the SDK has no accumulator."""

    def __init__(self):
        self.text = self.thoughts = ""
        self.calls, self.reasons, self.usage, self.blocked = [], {}, None, False

    def add(self, chunk):
        self.usage = chunk.get("usageMetadata") or self.usage
        self.blocked |= bool((chunk.get("promptFeedback") or {}).get("blockReason"))
        for candidate in chunk.get("candidates") or []:
            if candidate.get("finishReason"):
                self.reasons[str(candidate.get("index") or 0)] = candidate["finishReason"]
            for part in (candidate.get("content") or {}).get("parts") or []:
                if part.get("thought"):
                    self.thoughts += part.get("text") or ""
                else:
                    self.text += part.get("text") or ""
                if "functionCall" in part:
                    self.calls.append([part["functionCall"].get("name"), part["functionCall"].get("args") or {}])


FORMATS = {"openai-chat": Chat, "openai-completions": Completions, "openai-responses": Responses, "anthropic-messages": Anthropic, "gemini": Gemini}


def check(client, kind, body, native=False):
    """(problems, digest or None, ended by an error) of an answer or a stream."""
    reader = FORMATS[client](native)
    digest = reader.run(kind, body)
    return list(dict.fromkeys(reader.bad)), None if digest is None else small(digest), reader.errored


def small(digest):
    """A digest that can be kept for every line: texts and calls as (length, hash)."""
    return {name: brief(value) for name, value in digest.items()}


def brief(value):
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    if isinstance(value, list) and value or isinstance(value, str) and len(value) > 40:
        return [len(value), hashlib.sha1(text.encode("utf-8", "surrogatepass")).hexdigest()]
    return value


def differences(answer, stream):
    """Where a stream's digest is not the whole answer's."""
    for name in sorted(answer.keys() | stream.keys()):
        ours, theirs = answer.get(name), stream.get(name)
        if ours == theirs:
            continue
        if name == "usage" and ours and theirs:
            yield f"stream and answer differ in usage: {', '.join(each for each in ours if ours[each] != theirs[each])}"
        elif name == "usage":
            yield f"usage only in the {'answer' if ours else 'stream'}"
        elif name.endswith(("reason", "Reason", "status")):
            yield f"stream and answer differ in {name}: {json.dumps(theirs)} and {json.dumps(ours)}"
        else:
            yield f"stream and answer differ in {name}"
