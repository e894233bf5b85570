"""How a playbook is written: the file, the lines of events, and the text of messages.

A file is a story in blocks, separated by blank lines. The blocks before the first ``----`` are comments (``#``) and
the cast (``name: value`` lines). Every other block is one beat::

    who verb name name option=value +flag      one or more events
    ----
    what came out, and what it changed         compared; written by ``pytest tests/playbooks --rewrite``
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct
from msgspec.structs import fields

from distributed.messages.payload import ErrorInfo, FunctionBlob, Payload
from distributed.messages.scheduler_to_worker import TaskNeed

RULE = "----"
NOT_SHOWN = {"stimulus_id", "function", "payload", "thread", "started"}


class BadPlaybook(Exception):
    """A line that cannot be read; says which, and why."""


@dataclass
class Beat:
    """Events that are handled together, and what must come out."""

    number: int
    events: list[str]
    expected: list[str]


@dataclass
class Playbook:
    """One file. ``head`` is kept as it is; ``cast`` is what its ``name: value`` lines say."""

    head: list[str]
    cast: dict[str, str]
    beats: list[Beat]

    def text(self, outputs: list[list[str]]) -> str:
        """The file with these outputs."""
        blocks = ["\n".join(self.head)]
        for beat, output in zip(self.beats, outputs, strict=True):
            blocks.append("\n".join([*beat.events, RULE, *output]))
        return "\n\n".join(blocks) + "\n"


def read(text: str) -> Playbook:
    """Take a file apart."""
    head: list[str] = []
    beats: list[Beat] = []
    number = 1
    for block in text.split("\n\n"):
        lines = block.split("\n")
        start = number
        number += len(lines) + 1
        lines = [line for line in lines if line.strip()]
        if RULE in lines:
            cut = lines.index(RULE)
            beats.append(Beat(start, lines[:cut], lines[cut + 1 :]))
        elif beats and lines:
            raise BadPlaybook(f"line {start}: this block has no {RULE!r}")
        elif lines:
            head += [*([""] if head else []), *lines]
    cast = dict(_cast_line(line) for line in head if line and not line.startswith("#"))
    return Playbook(head, cast, beats)


def _cast_line(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise BadPlaybook(f"{line!r}: the cast is written as 'name: value'")
    return name.strip(), value.strip()


@dataclass
class Line:
    """One event: ``who verb name... option=value... +flag...``. What nobody asks for is a mistake of the author."""

    text: str
    who: str
    verb: str
    names: list[str]
    options: dict[str, str] = field(default_factory=dict)

    def take(self, name: str, default: str = "") -> str:
        return self.options.pop(name, default)

    def number(self, name: str, default: float) -> float:
        return float(self.options.pop(name, default))

    def items(self, name: str) -> list[str]:
        """``name=a,b,c``."""
        return [item for item in self.options.pop(name, "").split(",") if item]

    def amounts(self, name: str) -> dict[str, float]:
        """``name=GPU:1,MEM:2``."""
        return {item.split(":")[0]: float(item.split(":")[1]) for item in self.items(name)}

    def flag(self, name: str) -> bool:
        return self.options.pop("+" + name, None) is not None

    def check_used(self) -> None:
        if self.options:
            raise BadPlaybook(f"{self.text!r}: {', '.join(self.options)} mean nothing here")


def line_of(text: str) -> Line:
    """Split an event into words."""
    words = text.split()
    if len(words) < 2:
        raise BadPlaybook(f"{text!r}: an event is 'who verb ...'")
    names: list[str] = []
    options: dict[str, str] = {}
    for word in words[2:]:
        name, equals, value = word.partition("=")
        if word.startswith("+"):
            options[word] = ""
        elif equals:
            options[name] = value
        else:
            names.append(word)
    return Line(text, words[0], words[1], names, options)


def call_of(word: str) -> tuple[str, list[str]]:
    """``y(x,z)`` is y with x and z."""
    match = re.fullmatch(r"([^()]+)(?:\(([^()]*)\))?", word)
    if match is None:
        raise BadPlaybook(f"{word!r}: expected a name, or name(a,b)")
    return match[1], [item for item in (match[2] or "").split(",") if item]


def run_of(word: str, default: int = -1) -> tuple[str, int]:
    """``x#3`` is run 3 of x."""
    key, _, run = word.partition("#")
    return key, int(run) if run else default


def need_of(word: str) -> TaskNeed:
    """``x@a,b:10``: x is held by a and b and has 10 bytes."""
    rest, _, nbytes = word.partition(":")
    key, _, holders = rest.partition("@")
    return TaskNeed(key, tuple([address(h) for h in holders.split(",") if h]), int(nbytes) if nbytes else -1)


def address(name: str) -> str:
    """Each member of the cast has a host of its own."""
    return f"tcp://{name}:1"


def message(item: Any) -> str:
    """A message or an instruction: its name, then its fields unless they have their default."""
    return f"{name_of(type(item))} {_fields(item)}".rstrip()


def name_of(kind: type) -> str:
    """``KeyInMemory`` is ``key-in-memory``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()


def _fields(item: Any) -> str:
    if isinstance(item, Struct):
        pairs = [(f.name, getattr(item, f.name), f.default) for f in fields(item)]
    else:  # a NamedTuple
        pairs = [(name, getattr(item, name), None) for name in item._fields]
    words = []
    key, run_id = getattr(item, "key", None), getattr(item, "run_id", None)
    if key is not None:
        words.append(str(key) if run_id is None else f"{key}#{run_id}")
    for name, value, default in pairs:
        if name in NOT_SHOWN or name == "key" or (name == "run_id" and key is not None):
            continue
        if type(value) is type(default) and value == default:
            continue
        if value in (None, (), {}, "") or value == []:
            continue
        if value is True:
            words.append(f"+{name}")
        elif name in ("keys", "address", "reason", "message"):
            words.append(show(value) if name != "reason" else f"({show(value)})")
        else:
            words.append(f"{name}={show(value)}")
    return " ".join(words)


def show(value: Any) -> str:
    """Any value, short."""
    if isinstance(value, TaskNeed):
        holders = ",".join([show(holder) for holder in value.holders])
        return f"{value.key}{'@' + holders if holders else ''}{f':{value.nbytes}' if value.nbytes >= 0 else ''}"
    if isinstance(value, ErrorInfo):
        return f"{value.type_name}({show(value.message)!r})"
    if isinstance(value, (Payload, FunctionBlob)):
        return "bytes"
    if hasattr(value, "describe"):
        return f"({show(value.describe())})"
    if isinstance(value, dict):
        return ",".join([f"{show(k)}:{show(v)}" for k, v in value.items()]) or "none"
    if isinstance(value, (list, tuple)):
        return ",".join([show(item) for item in value]) or "none"
    if isinstance(value, float):
        return f"{value + 0.0:.4g}"  # -0.0 is 0
    if isinstance(value, bytes):
        return value.decode()
    text = re.sub(r"tcp://(\w+):1\b", r"\1", str(value))
    return re.sub(r"\s*\n\s*", " / ", text)
