"""A server of tools as agents start them (MCP, over standard input and output): one tool, which keeps a note in `out.txt`."""

import json
import sys

TOOL = {
    "name": "keep_note",
    "description": "Keeps a note for polygate",
    "inputSchema": {"type": "object", "properties": {"note": {"type": "string"}}, "required": ["note"]},
}


def answer(method, given):
    if method == "initialize":
        return {"protocolVersion": given["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "notes", "version": "1"}}
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        with open(sys.argv[1], "w") as file:
            file.write(given["arguments"]["note"])
        return {"content": [{"type": "text", "text": f"Kept: {given['arguments']['note']}"}]}
    return {}


for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": answer(asked["method"], asked.get("params"))}), flush=True)
