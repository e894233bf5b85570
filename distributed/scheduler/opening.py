"""The one place of the scheduler where pickles are opened: code that a client sends to be run here, on purpose.

``run_on_scheduler``, scheduler plugins, and nothing else; ``routes.py`` lets only clients come here.
"""

from __future__ import annotations

from typing import Any

from distributed.messages.payload import Payload
from distributed.protocol.plain import Pickled
from distributed.protocol.serialize import dumps, loads


def open_code(obj: Any) -> Any:
    """What a client meant to run here: a payload, a pickle as bytes, or (within one process) the object itself."""
    if isinstance(obj, Payload):
        return loads(obj)
    if isinstance(obj, Pickled):
        return obj.load()
    if isinstance(obj, (bytes, bytearray, memoryview)):
        return loads(Payload(bytes(obj)))
    return obj


def as_payload(obj: Any) -> Payload:
    """A plugin for workers or nannies, ready to be sent on unopened."""
    if isinstance(obj, Payload):
        return obj
    if isinstance(obj, Pickled):
        return obj.payload
    if isinstance(obj, (bytes, bytearray, memoryview)):
        return Payload(bytes(obj))
    return dumps(obj)
