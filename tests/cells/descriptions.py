"""Requests as the providers describe them: one compiled JSON-schema validator per upstream.

The descriptions (`$POLYGATE_CORPUS/specs`) are read as what a server would reject, not as documentation:
- an object that lists its members takes no others, unless it says so;
- `oneOf` is read as `anyOf` (OpenAI's overlap), and a union is entered by its tag (`type`, `role`, ...), for speed and so that
  an error is about the member that is wrong, not about twenty variants;
- `NEWER` lists what a description does not know yet, or asks too much for, and why we believe the traffic instead.
"""

import json
import os
from functools import cache
from pathlib import Path

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

# (description, schema, member: its schema or None if it may be absent, why). Only what recorded calls prove: the provider answered 200.
NEWER = [
    ("openai", "FunctionTool", {"strict": None, "parameters": None}, "described as required; tools without them are answered"),
    ("openai", "OutputMessage", {"type": None, "id": None, "status": None}, "an assistant turn written by hand has none of them, and is answered"),
    ("openai", "OutputTextContent", {"annotations": None, "logprobs": None}, "same"),
    ("openai", "InputImageContent", {"detail": None}, "described as required and as `auto` by default"),
    ("anthropic", "MessageCreateParamsNonStreaming", {each: {"type": "number"} for each in ("temperature", "top_p", "top_k")}, "SDK 2.12 dropped them; models before Opus 4.7 take them"),
    ("anthropic", "MessageCreateParamsStreaming", {each: {"type": "number"} for each in ("temperature", "top_p", "top_k")}, "same"),
    ("gemini", "ToolConfig", {"includeServerSideToolInvocations": {"type": "boolean"}}, "protos are behind the API"),
    ("gemini", "ThinkingConfig", {"thinkingLevel": {"type": "string"}}, "protos are behind the API"),
]


def directory():
    """Where the descriptions are; None if nobody says."""
    corpus = os.environ.get("POLYGATE_CORPUS")
    return Path(corpus) / "specs" if corpus else None


class Refs:
    """What `$ref`s of one document point at, each prepared once."""

    def __init__(self, document, prepare):
        self.document, self.prepare, self.known = document, prepare, {}

    def __call__(self, ref):
        if ref not in self.known:
            at = self.document
            for step in ref.removeprefix("#/").split("/") if ref != "#" else ():
                at = at[step.replace("~1", "/").replace("~0", "~")]
            self.known[ref] = None  # a cycle ends at the marker: only `prepare` asks while preparing
            self.known[ref] = self.prepare(at, self)
        return self.known[ref]

    def raw(self, schema):
        while isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
            schema = self.at(schema["$ref"])
        return schema

    def at(self, ref):
        found = self.document
        for step in ref.removeprefix("#/").split("/"):
            found = found[step.replace("~1", "/").replace("~0", "~")]
        return found


def prepare(schema, refs):
    """The schema as a server reads it."""
    if not isinstance(schema, dict):
        return schema
    schema = flat(schema, refs)
    made = {}
    for key, value in schema.items():
        if key in ("description", "title", "default", "example", "examples", "discriminator", "nullable", "format") or key.startswith("x-"):
            continue
        if key in ("properties", "patternProperties"):
            made[key] = {name: prepare(member, refs) for name, member in value.items()}
        elif key in ("oneOf", "anyOf"):
            made["anyOf"] = Branches(prepare(branch, refs) for branch in value if not is_answer_model(branch, refs))
        elif key in ("allOf", "prefixItems"):
            made[key] = [prepare(part, refs) for part in value]
        elif key in ("items", "additionalProperties", "not", "propertyNames"):
            made[key] = prepare(value, refs)
        elif key == "$recursiveRef":
            made = {}
            break
        else:
            made[key] = value
    if made.get("properties") and "additionalProperties" not in made and "allOf" not in made:
        made["additionalProperties"] = False
    return {"anyOf": Branches([made, {"type": "null"}])} if schema.get("nullable") is True else made


def flat(schema, refs):
    """An `allOf` of objects as one object, so that it can be closed."""
    parts = [flat(refs.raw(part), refs) for part in schema.get("allOf", [])]
    if not parts or not all("properties" in part for part in parts):
        return schema
    whole = {key: value for key, value in schema.items() if key != "allOf"}
    whole.setdefault("type", "object")
    properties, required = {}, list(whole.get("required", []))
    for part in [*parts, {"properties": whole.get("properties", {})}]:
        properties |= part["properties"]
        required += part.get("required", [])
    return whole | {"properties": properties, "required": sorted(set(required))}


def is_answer_model(branch, refs):
    """Anthropic's SDK lets answer models (open to any member) stand among request parameters; the server knows one shape."""
    model = refs.raw(branch)
    return isinstance(model, dict) and model.get("additionalProperties") is True and "const" in model.get("properties", {}).get("type", {})


class Branches(list):
    """The branches of a union, and once asked: the leaves among them, with what tells them apart."""

    leaves = None


def leaves(branches, refs):
    """The branches of a union, those of unions among them taken apart."""
    for branch in branches:
        meant = branch
        while isinstance(meant, dict) and "$ref" in meant:
            meant = refs(meant["$ref"])
        if isinstance(meant, dict) and "anyOf" in meant and set(meant) <= {"anyOf", "type"}:
            yield from leaves(meant["anyOf"], refs)
        else:
            yield branch, *shape(meant, refs)


def shape(schema, refs):
    """(JSON types or None, {tag member: values}) of a branch."""
    if not isinstance(schema, dict):
        return None, {}
    types = schema.get("type")
    types = {types} if isinstance(types, str) else set(types) if types else None
    if types is None and "properties" in schema:
        types = {"object"}
    tags = {}
    for name, member in schema.get("properties", {}).items():
        member = refs(member["$ref"]) if isinstance(member, dict) and "$ref" in member else member
        if not isinstance(member, dict) or name not in ("type", "role", "object", "mode"):
            continue
        values = [member["const"]] if "const" in member else member.get("enum")
        if values:
            tags[name] = set(values)
    return types, tags


TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def json_type(value):
    return TYPES[type(value)]


def compiled(document, ref):
    """A validator for what `ref` points at in `document`."""
    refs = Refs(document, prepare)

    def follow(validator, ref, instance, schema):
        yield from validator.descend(instance, refs(ref))

    def any_of(validator, branches, instance, schema):
        if branches.leaves is None:
            branches.leaves = list(leaves(branches, refs))
        kind = json_type(instance)
        fits = [leaf for leaf in branches.leaves if leaf[1] is None or kind in leaf[1] or kind == "integer" and "number" in leaf[1]]
        if not fits:
            wanted = sorted(set().union(*(types for _, types, _ in branches.leaves)))
            yield ValidationError(f"type: {kind} where {'|'.join(wanted)}")
            return
        if kind == "object":
            meant = [leaf for leaf in fits if all(instance[n] in v for n, v in leaf[2].items() if n in instance and hashable(instance[n]))]
            tagged = [leaf for leaf in meant if any(n in instance for n in leaf[2])]
            if not meant:
                tags = {name: instance.get(name) for leaf in fits for name in leaf[2]}
                yield ValidationError(f"no variant is tagged {json.dumps(tags, sort_keys=True)}")
                return
            fits = tagged or meant
        if len(fits) == 1:
            yield from validator.descend(instance, fits[0][0])
            return
        best, least = None, None
        for branch, *_ in fits:
            errors = list(validator.descend(instance, branch))
            if not errors:
                return
            # A wrong tag deeper down says that the branch is another one; anything else is a fault in the right one.
            weight = sum(100 if error.validator == "anyOf" else 1 for error in errors)
            if least is None or weight < least:
                best, least = errors, weight
        yield from best

    # What does not concern JSON from the wire (`$ref` is ours, a union is entered by its tag) is replaced, the rest is jsonschema's.
    cls = extend(Draft202012Validator, {"$ref": follow, "anyOf": any_of})
    return cls({"$ref": ref})


def hashable(value):
    return not isinstance(value, (dict, list))


def bedrock(service, name):
    """A botocore service description's input shape as a JSON schema; members that travel in the URL are left out."""
    shapes = service["shapes"]
    kinds = {"integer": "integer", "long": "integer", "float": "number", "double": "number", "boolean": "boolean"}

    def convert(shape):
        kind = shape["type"]
        if shape.get("document"):
            return {}
        if kind == "structure":
            members = {m: {"$ref": f"#/$defs/{v['shape']}"} for m, v in shape["members"].items() if "location" not in v}
            made = {"type": "object", "properties": members, "additionalProperties": False}
            made["required"] = [m for m in shape.get("required", []) if m in members]
            return made | {"minProperties": 1, "maxProperties": 1} if shape.get("union") else made
        if kind == "list":
            made = {"type": "array", "items": {"$ref": f"#/$defs/{shape['member']['shape']}"}}
            return made | bounds(shape, "minItems", "maxItems")
        if kind == "map":
            return {"type": "object", "additionalProperties": {"$ref": f"#/$defs/{shape['value']['shape']}"}}
        if kind == "string":
            made = {"type": "string"} | bounds(shape, "minLength", "maxLength")
            made |= {"enum": shape["enum"]} if "enum" in shape else {}
            return made | ({"pattern": f"^(?:{shape['pattern']})$"} if "pattern" in shape else {})
        if kind == "blob":
            return {"type": "string", "pattern": "^[A-Za-z0-9+/]*={0,2}$"}
        if kind == "timestamp":
            return {"type": ["string", "number"]}
        return {"type": kinds[kind]} | bounds(shape, "minimum", "maximum")

    return {"$defs": {each: convert(shape) for each, shape in shapes.items()}, "input": name}


def bounds(shape, low, high):
    return {ours: shape[theirs] for theirs, ours in (("min", low), ("max", high)) if theirs in shape}


FILES = {
    "openai-chat": "openai/openapi.json",
    "openai-responses": "openai/openapi.json",
    "anthropic-messages": "anthropic/sdk-types.schema.json",
    "gemini": "gemini/generativelanguage.v1beta.schema.json",
    "bedrock-converse": "bedrock/service-2.json",
}


@cache
def document(path):
    text = json.loads(path.read_text())
    for row, name, members, _ in NEWER:
        if row == path.parent.name:
            schema = named(row, text, name)
            for member, described in members.items():
                if described is None:
                    schema["required"] = [each for each in schema.get("required", []) if each != member]
                else:
                    assert member not in schema["properties"], f"the description of {name} knows {member} by now: drop the row"
                    schema["properties"][member] = described
    return text


def named(description, text, name):
    match description:
        case "openai":
            return text["components"]["schemas"][name]
        case "gemini":
            return text["$defs"][f"google.ai.generativelanguage.v1beta.{name}"]
        case _:
            return text[name]


@cache
def validators(upstream):
    """{variant: validator} of an upstream, or None without its description."""
    if directory() is None or upstream not in FILES or not (directory() / FILES[upstream]).exists():
        return None
    text = document(directory() / FILES[upstream])
    match upstream:
        case "openai-chat":
            return {"": compiled(text, "#/components/schemas/CreateChatCompletionRequest")}
        case "openai-responses":
            return {"": compiled(text, "#/components/schemas/CreateResponse")}
        case "anthropic-messages":
            return {
                "": compiled(text, "#/MessageCreateParamsNonStreaming"),
                "stream": compiled(text, "#/MessageCreateParamsStreaming"),
            }
        case "gemini":
            return {"": compiled(text, "#/$defs/google.ai.generativelanguage.v1beta.GenerateContentRequest")}
        case "bedrock-converse":
            return {"": compiled(bedrock(text, "ConverseRequest"), "#/$defs/ConverseRequest")}


def absent():
    """The upstreams whose description is not there."""
    return [upstream for upstream in FILES if directory() is None or not (directory() / FILES[upstream]).exists()]


def check(upstream, body):
    """Problems of a request for `upstream`; None if there is no description to hold it against."""
    variants = validators(upstream)
    if variants is None:
        return None
    try:
        request = json.loads(body)
    except ValueError as error:
        return [f"not JSON: {error.msg}"]
    if not isinstance(request, dict):
        return [f"not an object: {json_type(request)}"]
    streams = "stream" in variants and request.get("stream") is True
    found = []
    for error in variants["stream" if streams else ""].iter_errors(request):
        if not tolerated(upstream, error):
            found += [f"{place(error.absolute_path)}: {what}" for what in told(error)]
    return found


def tolerated(upstream, error):
    """What proto3's JSON takes though the schema made from the protos does not say so."""
    if upstream != "gemini":
        return False
    null_is_absent = error.validator == "type" and error.instance is None
    any_case = error.validator == "enum" and isinstance(error.instance, str) and error.instance.upper() in error.validator_value
    return null_is_absent or any_case


# Members whose keys are the caller's: a path through them is one path.
MAPS = {"properties", "$defs", "definitions", "metadata", "logit_bias", "requestMetadata", "args", "input"}


def place(path):
    """A path with `*` for what differs from request to request."""
    steps, free = [], False
    for step in path:
        steps.append("*" if free or isinstance(step, int) else step)
        free = step in MAPS and not free
    return ".".join(steps) or "(top)"


def told(error):
    """What is wrong, without what differs from request to request; one text for each wrong member."""
    kind, value, instance = error.validator, error.validator_value, error.instance
    match kind:
        case "additionalProperties" if value is False:
            known = error.schema.get("properties", {})
            return [f"unknown: {name}" for name in instance if name not in known]
        case "required":
            return [f"required: {name}" for name in value if name not in instance and f"'{name}'" in error.message]
        case "type":
            return [f"type: {json_type(instance)} where {value if isinstance(value, str) else '|'.join(value)}"]
        case "enum" | "const":
            return [f"{kind}: {json.dumps(instance)[:60]} is none of the described values"]
        case "anyOf":
            return [error.message[:200]]
        case "minProperties" | "maxProperties":
            return [f"{kind}: a union of one member has {sorted(instance)}" if value == 1 else f"{kind}: {value}"]
        case _:
            return [f"{kind}: {json.dumps(value)[:80]} against {json_type(instance)}"]
