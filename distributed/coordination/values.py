"""Users' objects on their way to the scheduler and back: packed, and opened with futures of the client. Shell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from distributed.base import defaults
from distributed.base.keys import Key, as_key
from distributed.coordination.link import link_of
from distributed.messages.payload import Attached, Payload
from distributed.protocol.serialize import dumps, loads

SMALL_NBYTES = 64 << 10
"""Values of fewer bytes are sent without waiting for an answer."""


def pack(value: Any, client: Any) -> dict[str, Any]:
    """A user's object as the arguments ``value`` and (if it has futures, which become known to the scheduler) ``keys``.

    Raises ``SerializationError`` when it cannot be pickled.
    """
    packed: dict[str, Any] = {"value": _apart(dumps(value), client)}
    keys = _keys_of(value, client)
    if keys:
        packed["keys"] = keys
    return packed


def is_small(payload: Any) -> bool:
    """Whether many such values may be on their way at a time."""
    return type(payload) is Payload and payload.attached is None and len(payload.data) < SMALL_NBYTES


def opened(payload: Payload) -> Any:
    """A small value without futures, opened."""
    return loads(payload)


def _keys_of(value: Any, client: Any) -> list[Key]:
    if type(value) in _PLAIN:
        return []
    futures = defaults.load("distributed.client.futures:futures_of")(value)
    if not futures:
        return []
    adopt = defaults.load("distributed.client.packing:adopt")
    return [as_key(future.key if future.client is client else adopt(future, client).key) for future in futures]


_PLAIN = frozenset([type(None), bool, int, float, complex, str, bytes])


def _apart(payload: Payload, client: Any) -> Payload:
    """The payload with memory of its own. A wire copies by itself; a scheduler in this process would share memory with
    the object that was put in, and all that are taken out."""
    attached = payload.attached
    connection = client.session.connection
    if attached is None or (connection is not None and not connection.same_process):
        return payload
    return Payload(payload.data, Attached([bytearray(memoryview(buffer)) for buffer in attached.buffers]))


def unpack(payloads: Iterable[Payload], keys: Iterable[Key], transit: int, client: Any) -> list[Any]:
    """The objects that came, their futures being of ``client``; confirms their arrival."""
    if not transit:
        return [loads(_apart(payload, client)) for payload in payloads]
    make_future = defaults.load("Future")
    # Held until the objects are open: the scheduler keeps the keys for us until we confirm, and these after that.
    held = [make_future(key, client) for key in keys]
    try:
        with defaults.load("distributed.client.current:as_current")(client):
            return [loads(_apart(payload, client)) for payload in payloads]
    finally:
        link_of(client).tell("coordination_arrived", {"transit": transit})
        del held
