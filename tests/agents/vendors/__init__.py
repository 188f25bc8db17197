"""What a session is in no vendor's words. Each module here says it in the words of one, and refuses what that one would."""

import json
import re
from dataclasses import dataclass, field


class Refused(Exception):
    """The vendor would answer 400 with this."""


@dataclass(frozen=True)
class Call:
    """A tool call of the model: a function's arguments, or the text of a freeform tool."""

    id: str | None
    name: str
    given: dict | str


@dataclass(frozen=True)
class Result:
    """What the agent said to a call."""

    id: str | None
    name: str | None
    text: str


@dataclass(frozen=True)
class Turn:
    """What the model says in one answer; `seal` is what comes with a thought and has to come back as it is.
    No two answers have the same `number`: agents take messages of one id for parts of one message."""

    calls: tuple[Call, ...] = ()
    text: str = ""
    thought: str = ""
    seal: str = ""
    number: int = 0


@dataclass
class Asked:
    """What the model needs of a request."""

    stream: bool
    tools: dict  # name → JSON schema, or None where the tool is freeform
    calls: list[Call] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    seals: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)  # base64
    schema: dict | None = None  # of the whole answer


def need(truth, message):
    if not truth:
        raise Refused(message)


def known(given, names, where):
    """No members but these."""
    for name in given:
        need(name in names, f"{where}: unknown member {name!r}")


def text_of(content):
    """The text of a string or of a list of parts."""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content or [] if isinstance(part, dict))


def inline(url):
    """The base64 of a data address."""
    kind, _, data = url.partition(",")
    need(re.fullmatch(r"data:image/\w+;base64", kind), f"not a picture's data address: {kind!r}")
    return data


def pieces(text, count=3):
    """A text in so many parts, as streams bring it."""
    size = max(1, -(-len(text) // count))
    return [text[at : at + size] for at in range(0, len(text), size)]


def dumps(value):
    return json.dumps(value, separators=(",", ":"))


def data(event):
    return f"data: {dumps(event)}\n\n"


def named(event):
    return f"event: {event['type']}\n{data(event)}"
