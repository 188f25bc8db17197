"""Gemini."""

import re

from . import Asked, Call, Result, data, dumps, known, need, pieces

REQUEST = "contents tools toolConfig systemInstruction generationConfig safetySettings cachedContent model serviceTier store".split()
GENERATION = """stopSequences responseMimeType responseSchema responseJsonSchema _responseJsonSchema responseModalities candidateCount
    maxOutputTokens temperature topP topK seed presencePenalty frequencyPenalty responseLogprobs logprobs
    enableEnhancedCivicAnswers speechConfig thinkingConfig imageConfig mediaResolution""".split()
TOOLS = "functionDeclarations googleSearch googleSearchRetrieval codeExecution urlContext computerUse fileSearch googleMaps mcpServers".split()
PART = "thought thoughtSignature videoMetadata mediaResolution partMetadata text inlineData fileData functionCall functionResponse executableCode codeExecutionResult".split()
DATA = "text inlineData fileData functionCall functionResponse executableCode codeExecutionResult".split()
SCHEMA = """type format title description nullable enum maxItems minItems properties required minProperties maxProperties minLength
    maxLength pattern example anyOf propertyOrdering default items minimum maximum""".split()
NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
# What Google documents for histories that come from another model.
UNSEALED = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")

# Status and body.
BUSY = 503, {"error": {"code": 503, "message": "The model is overloaded. Please try again later.", "status": "UNAVAILABLE"}}


def call_id(at):
    return f"fcpg{at:04d}"


def check(body, headers, issued):
    need(headers.get("x-goog-api-key"), "Method doesn't allow unregistered callers")
    known(body, REQUEST, "Invalid JSON payload received. Unknown name")
    generation = body.get("generationConfig", {})
    known(generation, GENERATION, "Unknown name at 'generation_config'")
    known(generation.get("thinkingConfig", {}), ("includeThoughts", "thinkingBudget", "thinkingLevel"), "Unknown name at 'thinking_config'")
    need(len({"thinkingBudget", "thinkingLevel"} & set(generation.get("thinkingConfig", {}))) < 2, "You can only set only one of thinking budget and thinking level.")
    names = set()
    for tool in body.get("tools", []):
        known(tool, TOOLS, "Unknown name at 'tools'")
        for it in tool.get("functionDeclarations", []):
            name = it.get("name", "")
            known(it, "name description parameters parametersJsonSchema response responseJsonSchema behavior".split(), f"Unknown name at 'function_declarations' ({name})")
            need(NAME.fullmatch(name), f"Invalid function name {name!r}")
            need(name not in names, f"Duplicate function declaration found: {name}")
            names.add(name)
            need(not ("parameters" in it and "parametersJsonSchema" in it), f"{name}: parameters and parametersJsonSchema are mutually exclusive")
            if "parameters" in it:
                schema(it["parameters"], name)
    chosen = body.get("toolConfig", {}).get("functionCallingConfig", {})
    need(chosen.get("mode", "AUTO") in ("AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED"), f"function_calling_config.mode: {chosen}")
    if "systemInstruction" in body:
        parts = body["systemInstruction"].get("parts")
        need(parts and all(part.get("text") for part in parts), "system_instruction: parts must not be empty")
    contents(body.get("contents"), issued)


def schema(node, where):
    """Google's own schema language, which `parameters` is in, is not JSON Schema."""
    need(isinstance(node, dict), f"{where}: not an object")
    known(node, SCHEMA, f"Invalid JSON payload received. Unknown name at {where}")
    need(isinstance(node.get("type", ""), str), f"{where}.type: Proto field is not repeating, cannot start list")
    kind = node.get("type", "").upper()
    need(kind in ("", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"), f"{where}.type: {kind}")
    need(kind != "ARRAY" or "items" in node, f"{where}.items: missing field")
    for value in node.get("enum", []):
        need(isinstance(value, str) and value, f"{where}.enum: must be non-empty strings: {value!r}")
    need("enum" not in node or kind in ("STRING", ""), f"{where}.enum: only allowed for STRING type")
    for name in node.get("required", []):
        need(name in node.get("properties", {}), f"{where}.required: property is not defined: {name}")
    for name, value in node.get("properties", {}).items():
        schema(value, f"{where}.{name}")
    if "items" in node:
        schema(node["items"], f"{where}[]")
    for value in node.get("anyOf", []):
        schema(value, f"{where}|")


def contents(given, issued):
    need(given, "contents: is not specified")
    waiting = []
    last_user = max((at for at, content in enumerate(given) if content.get("role", "user") == "user" and any("text" in part for part in content.get("parts", []))), default=0)
    for at, content in enumerate(given):
        where = f"contents[{at}]"
        known(content, ("role", "parts"), where)
        role = content.get("role", "user")
        need(role in ("user", "model"), f"{where}: Please use a valid role: user, model ({role!r})")
        need(at or role == "user", "Please ensure that the first turn is of the user")
        parts = content.get("parts")
        need(parts, f"{where}: must include at least one parts field")
        for number, part in enumerate(parts):
            known(part, PART, f"{where}.parts[{number}]")
            held = [name for name in DATA if name in part]
            need(len(held) == 1, f"{where}.parts[{number}].data: required oneof field 'data' must have one initialized field: {sorted(part)}")
            need(part.get("text") != "" or "thoughtSignature" in part, f"{where}.parts[{number}]: empty text")
            seal = part.get("thoughtSignature")
            need(seal is None or seal in issued or seal in UNSEALED, f"{where}.parts[{number}]: Corrupted thought signature: {seal!r}")
        answers = [part["functionResponse"] for part in parts if "functionResponse" in part]
        if waiting or answers:
            need([call["name"] for call in waiting] == [answer.get("name") for answer in answers], f"{where}: Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn: {waiting} {answers}")
            for call, answer in zip(waiting, answers, strict=True):
                need(isinstance(answer.get("response"), dict), f"{where}: function_response.response: not an object")
                known(answer, "id name response willContinue scheduling parts".split(), where)
                need(answer.get("id") in (None, call.get("id")), f"{where}: the response's id {answer.get('id')!r} is not that of the call: {call}")
        waiting = [part["functionCall"] for part in parts if "functionCall" in part]
        need(not waiting or role == "model", f"{where}: function call of {role}")
        for call in waiting:
            known(call, ("id", "name", "args", "partialArgs", "willContinue"), where)
        if waiting and issued and at > last_user:
            first = next(part for part in parts if "functionCall" in part)
            need(first.get("thoughtSignature"), f"Function call is missing a thought_signature in functionCall parts: {where}, {first['functionCall'].get('name')}")
    need(not waiting, "Please ensure that function call turn is followed by a function response turn")


def read(body):
    declared = [it for tool in body.get("tools", []) for it in tool.get("functionDeclarations", [])]
    tools = {it["name"]: it.get("parametersJsonSchema") or it.get("parameters") or {} for it in declared}
    asked = Asked(False, tools)
    for content in body["contents"]:
        for part in content["parts"]:
            if "functionCall" in part:
                call = part["functionCall"]
                asked.calls.append(Call(call.get("id"), call["name"], call.get("args", {})))
            if "functionResponse" in part:
                answer = part["functionResponse"]
                asked.results.append(Result(answer.get("id"), answer["name"], dumps(answer["response"])))
            if "thoughtSignature" in part:
                asked.seals.append(part["thoughtSignature"])
            for one in [part, *part.get("functionResponse", {}).get("parts", [])]:
                if "inlineData" in one:
                    need(one["inlineData"].get("mimeType", "").startswith("image/"), f"inline_data.mime_type: {one['inlineData'].get('mimeType')!r}")
                    asked.pictures.append(one["inlineData"]["data"])
    generation = body.get("generationConfig", {})
    asked.schema = generation.get("responseJsonSchema") or generation.get("responseSchema")
    return asked


def parts_of(body, turn):
    if turn.thought and body.get("generationConfig", {}).get("thinkingConfig", {}).get("includeThoughts"):
        yield {"text": turn.thought, "thought": True}
    for piece in pieces(turn.text):
        yield {"text": piece}
    for at, call in enumerate(turn.calls):
        part = {"functionCall": {"name": call.name, "args": call.given, **({"id": call.id} if call.id else {})}}
        # Only the first of parallel calls is sealed.
        yield {**part, "thoughtSignature": turn.seal} if turn.seal and not at else part
    if turn.seal and not turn.calls:
        yield {"text": "", "thoughtSignature": turn.seal}


def chunk(turn, parts, stop=None):
    candidate = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if stop:
        candidate["finishReason"] = stop
    used = {"promptTokenCount": 120, "candidatesTokenCount": 24, "totalTokenCount": 144}
    return {"candidates": [candidate], "usageMetadata": used, "modelVersion": "gemini-polygate", "responseId": f"polygate{turn.number}"}


def answer(body, turn):
    return chunk(turn, list(parts_of(body, turn)), "STOP")


def events(body, turn):
    parts = list(parts_of(body, turn))
    for at, part in enumerate(parts):
        yield data(chunk(turn, [part], "STOP" if at == len(parts) - 1 else None))


def error(message):
    return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}
