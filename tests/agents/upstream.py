"""A provider that speaks all four formats, plays a script, and refuses what the vendor would refuse."""

import json
import re
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

from vendors import Asked, Call, Refused, Turn, anthropic, chat, gemini, responses

VENDORS = {"anthropic": anthropic, "chat": chat, "responses": responses, "gemini": gemini}
ROUTES = [
    (re.compile(r"/v1/messages"), "anthropic"),
    (re.compile(r"/v1/chat/completions"), "chat"),
    (re.compile(r"/v1/responses"), "responses"),
    (re.compile(r"/v1beta/models/[^/:]+:(stream)?[gG]enerateContent"), "gemini"),
]
COUNTS = {
    re.compile(r"/v1/messages/count_tokens"): {"input_tokens": 120},
    re.compile(r"/v1beta/models/[^/:]+:countTokens"): {"totalTokens": 120},
}
# How much of a stream comes before its connection breaks: some of its first words, or all of them and some of what follows.
CUTS = {"cut": 1 / 3, "cut after words": 1 / 2}
NUMBERS = count()
HELP = Turn(text="A title of polygate")


@dataclass(frozen=True)
class Use:
    """A scripted tool call, whatever the upstream's name and id for it: `given` is arguments, or the text for a freeform tool."""

    tool: str
    given: dict | str


@dataclass(frozen=True)
class Step:
    """What the model says in one turn."""

    uses: tuple[Use, ...] = ()
    text: str = ""
    thought: str = ""
    fault: str = ""  # what goes wrong when it is first asked for: "busy", or one of CUTS


@dataclass
class Request:
    """One request as it came, and what became of it."""

    path: str
    headers: dict
    body: dict | None
    asked: Asked | None = None
    refused: str | None = None
    is_session: bool = False
    is_stream: bool = False
    fault: str = ""


@dataclass
class Upstream:
    """`vendor` is the one format that it takes; `with_ids` is whether Gemini's calls have ids, as those of its third generation."""

    vendor: str
    script: list[Step]
    with_ids: bool = True
    requests: list[Request] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    played: dict[int, Turn] = field(default_factory=dict)

    def __post_init__(self):
        handler = type("Bound", (Handler,), {"upstream": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    @property
    def refused(self):
        return [f"{request.path}: {request.refused}" for request in self.requests if request.refused]

    @property
    def session(self):
        """The requests of the scripted session, without those that agents make beside."""
        return [request for request in self.requests if request.is_session and not request.refused and not request.fault]

    @property
    def faulty(self):
        """The requests of the session at which something went wrong, as the script says."""
        return [request for request in self.requests if request.fault]

    def issued(self):
        """Seals that the vendor gave out."""
        return {turn.seal for turn in self.played.values() if turn.seal}

    def take(self, request):
        """The answer's turn; `None` where only a count is asked."""
        self.requests.append(request)
        need_vendor = next((name for route, name in ROUTES if route.fullmatch(request.path)), None)
        if any(route.fullmatch(request.path) for route in COUNTS):
            return None
        if need_vendor != self.vendor:
            raise Refused(f"{request.path} is not of {self.vendor}")
        vendor = VENDORS[self.vendor]
        vendor.check(request.body, request.headers, self.issued())
        request.asked = vendor.read(request.body)
        at, before = self.place(request.asked)
        names = {use.tool: find(use.tool, request.asked.tools) for use in self.script[at].uses}
        if None in names.values() or not request.asked.tools:
            return HELP
        request.is_session = True
        if at not in self.played:
            request.fault = self.script[at].fault
        return self.turn(at, before, request.asked, names)

    def place(self, asked):
        """The place in the script after as many results as there are, and their number."""
        before = 0
        for at, step in enumerate(self.script):
            if before + len(step.uses) > len(asked.results) or not step.uses:
                break
            before += len(step.uses)
        return at, before

    def turn(self, at, before, asked, names):
        step = self.script[at]
        if at not in self.played:
            calls = tuple(self.call(before + number, names[use.tool], use.given, asked) for number, use in enumerate(step.uses))
            seal = f"c2VhbGVkLXBvbHlnYXRl{at:04d}" if step.thought else ""
            self.played[at] = Turn(calls, step.text, step.thought, seal)
        return self.played[at]

    def call(self, at, name, given, asked):
        schema = asked.tools[name]
        if isinstance(given, str) and schema is not None:
            # A freeform tool reached this vendor as a function: its text goes into the one string there is.
            texts = [key for key, value in schema.get("properties", {}).items() if str(value.get("type")).lower() == "string"]
            if len(texts) != 1:
                raise Refused(f"harness: nowhere to put the text of {name}: {schema}")
            given = {texts[0]: given}
        return Call(VENDORS[self.vendor].call_id(at) if self.with_ids else None, name, given)


def find(tool, offered):
    """The offered tool that is called so, at least at the end of its name."""
    return tool if tool in offered else next((name for name in offered if name.endswith(f"_{tool}")), None)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream = None

    def log_message(self, *_):
        pass

    def do_CONNECT(self):
        """Agents' proxy is here: what they want from the outside is noted, and not had."""
        self.upstream.outside.append(self.path)
        self.close_connection = True
        self.send_error(403)

    def do_GET(self):
        if self.path.startswith("http"):
            return self.do_CONNECT()
        self.give(200, {"object": "list", "data": [], "models": []})

    do_HEAD = do_GET

    def do_POST(self):
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path.startswith("http"):
            return self.do_CONNECT()
        path = self.path.split("?")[0]
        vendor = VENDORS[self.upstream.vendor]
        request = Request(path, {name.lower(): value for name, value in self.headers.items()}, None)
        try:
            request.body = json.loads(raw)
            turn = self.upstream.take(request)
            turn = turn and replace(turn, number=next(NUMBERS))
        except Refused as refused:
            request.refused = str(refused)
        except Exception as error:  # what the checks did not expect either
            request.refused = f"harness: {type(error).__name__}: {error}"
        if request.refused:
            return self.give(400, vendor.error(request.refused))
        if request.fault == "busy":
            return self.give(*vendor.BUSY)
        if turn is None:
            return self.give(200, next(given for route, given in COUNTS.items() if route.fullmatch(path)))
        request.is_stream = request.asked.stream or path.endswith(":streamGenerateContent")
        if not request.is_stream:
            return self.give(200, vendor.answer(request.body, turn))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        events = list(vendor.events(request.body, turn))
        if request.fault in CUTS:
            # The connection ends; the chunks do not.
            events = events[: max(1, int(len(events) * CUTS[request.fault]))]
            self.close_connection = True
        for event in events:
            piece = event.encode()
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
        if request.fault not in CUTS:
            self.wfile.write(b"0\r\n\r\n")

    def give(self, status, answer):
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
