#!/usr/bin/env python3
"""Seeds of the fuzz targets, from recorded traffic ($POLYGATE_CORPUS/train) and golden cases: seed.py [FOLDER].

A seed is a target's leading bytes (see src/<target>.rs) and a recorded body. At most KEPT a target, the groups taking turns.
"""

import base64
import hashlib
import json
import os
import struct
import sys
from pathlib import Path

FORMATS = ["openai-chat", "openai-responses", "anthropic-messages", "gemini", "bedrock-converse"]  # Format::ALL
DIALECTS = {**{name: name for name in FORMATS}, "anthropic": "anthropic-messages"}
LARGEST, FRAMED, KEPT = 64 * 1024, 4 * 1024, 1500  # What is in a frame does not matter to the framer.
BENT, USAGE, ARRAY, QUIRKS = 0x40, 0x80, 0x40, 0x40
HERE = Path(__file__).resolve().parent


def byte(format, flags=0):
    return bytes([FORMATS.index(format) | flags])


def event_stream(data):
    """AWS's binary messages as server-sent events."""
    out = b""
    while len(data) >= 16:
        total, length = struct.unpack(">II", data[:8])
        headers, name = data[12 : 12 + length], b""
        while headers:
            key = headers[1 : 1 + headers[0]]
            at = 4 + headers[0]
            size = struct.unpack(">H", headers[at - 2 : at])[0]  # All that Bedrock writes is text.
            if key in (b":event-type", b":exception-type"):
                name = (b"exception:" if b"exc" in key else b"") + headers[at : at + size]
            headers = headers[at + size :]
        out += b"event: " + name + b"\ndata: " + data[12 + length : total - 4] + b"\n\n"
        data = data[total:]
    return out


def recorded(root):
    """(group, format, kind, bytes) of everything recorded in a format that we speak."""
    for path in sorted(root.glob("train/*.jsonl")):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            format, body = DIALECTS.get(record["dialect"]), record["response_body"]
            if format is None:
                continue
            if record["request_json"] is not None:
                yield path.stem, format, "request", json.dumps(record["request_json"], ensure_ascii=False).encode()
            match record["response_encoding"]:
                case "json" | "text":
                    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
                    yield path.stem, format, "response", text.encode()
                case "sse":
                    yield path.stem, format, "stream", body.encode()
                case "aws-eventstream-base64":
                    messages = base64.b64decode(body)
                    yield path.stem, format, "messages", messages
                    yield path.stem, format, "stream", event_stream(messages)


def golden(root):
    for path in sorted(root.glob("*/*/*")):
        format, kind = path.parent.parent.name, path.stem
        if format not in FORMATS or path.suffix not in (".json", ".sse"):
            continue
        if kind == "request":  # All of them are requests of chat clients.
            format = FORMATS[0]
        yield "golden", format, "response" if kind == "error" else kind, path.read_bytes()


def seeds(number, format, kind, body):
    """(target, seed) of one body; what is left to choose, its number chooses."""
    if kind in ("request", "response", "stream"):
        yield "guard", byte(format) + body
    match kind:
        case "request":
            yield "request", byte(format, QUIRKS if number % 2 else 0) + body
            place = ["messages.0.content", "metadata.user_id", "tools.-", "generationConfig.maxOutputTokens", "messages.-1"][number % 5]
            yield "path", f"{number % 6}{place}\n{{}}\n".encode() + body
        case "response":
            yield "response", byte(format, 0 if number % 4 else BENT) + body
        case "messages":
            # The first alone is what a change is most likely to keep whole.
            yield "messages", body[: struct.unpack(">I", body[:4])[0]]
            yield "messages", body[:FRAMED]
        case "stream":
            if len(body) <= FRAMED:
                yield "sse", body
            client = FORMATS[number % 4]
            asked = (USAGE if number % 2 else 0) | (ARRAY if number % 3 == 0 else 0)
            yield "stream", byte(format, 0 if number % 4 else BENT) + byte(client, asked) + body


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "seeds"
    found = list(golden(HERE.parent / "crates/wire/tests/golden"))
    if corpus := os.environ.get("POLYGATE_CORPUS"):
        found += recorded(Path(corpus))
    else:
        print("POLYGATE_CORPUS is not set: seeds are the golden cases only", file=sys.stderr)
    groups, seen = {}, set()
    for number, (group, *what) in enumerate(found):
        for target, seed in seeds(number, *what):
            name = hashlib.sha1(seed).hexdigest()[:16]
            if len(seed) <= LARGEST and (target, name) not in seen:
                seen.add((target, name))
                groups.setdefault(target, {}).setdefault(group, []).append((len(seed), name, seed))
    for target, lists in sorted(groups.items()):
        # The groups take turns, each giving its smallest first: large ones cost every mutation of them.
        ranked = [(rank, *seed) for seeds in lists.values() for rank, seed in enumerate(sorted(seeds))]
        kept = sorted(ranked)[:KEPT]
        (folder / target).mkdir(parents=True, exist_ok=True)
        for *_, name, seed in kept:
            (folder / target / name).write_bytes(seed)
        print(f"{target}: {len(kept)} seeds of {len(ranked)}, {sum(row[1] for row in kept) // 1024} KB")


main()
