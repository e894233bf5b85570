"""Replay files: a script, and one line that says what it showed. JSON, readable, and the same for ever. Pure."""

from __future__ import annotations

import json

import msgspec
from msgspec import Struct

from distributed.simulation.script import Script


class Replay(Struct, omit_defaults=True):
    """``what`` was wrong when this was recorded; ``rule`` is the check that said so; ``mended`` is how."""

    what: str
    script: Script
    rule: str = ""
    mended: str = ""


def encode(replay: Replay) -> str:
    """One record of the script a line."""
    plain = msgspec.to_builtins(replay)
    acts = plain["script"].pop("acts")
    fields = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in plain["script"].items()]
    records = ",\n".join([f"   {json.dumps(act)}" for act in acts])
    fields.append(f'  "acts": [\n{records}\n  ]')
    head = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in plain.items() if name != "script"]
    script = ",\n".join(fields)
    return "{\n" + ",\n".join([*head, f' "script": {{\n{script}\n }}']) + "\n}\n"


def decode(text: str | bytes) -> Replay:
    """What ``encode`` wrote. Raises ``msgspec.ValidationError`` that names what is wrong."""
    return msgspec.json.decode(text, type=Replay)
