"""The values that a worker holds, by key. Shell, but without I/O of its own.

A value is either *open* (the object) or *sealed*: the bytes that arrived from another worker, unpickled when a task
first needs it. Sealed values cost the event loop nothing; an error in unpickling becomes an error of the task that
needs the value, and a crash in it is blamed on that task; what is only passed on is never unpickled at all. Slot
threads read and open, the loop writes. Which keys should be here is decided by the state machine, and spilling will
live behind the same mapping.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

from distributed.base.keys import Key
from distributed.messages.payload import Payload
from distributed.protocol import serialize

_MISSING = object()


class Sealed:
    """A value that has arrived and that nobody has opened yet. Thread-safe."""

    __slots__ = ("key", "payload", "producer", "_lock", "_value")

    def __init__(self, key: Key, payload: Payload, producer: str) -> None:
        self.key = key
        self.payload = payload
        self.producer = producer
        self._lock = threading.Lock()
        self._value: Any = _MISSING

    def open(self) -> Any:
        """The value; unpickled at the first call, whatever exception that raises at every call."""
        if self._value is _MISSING:
            with self._lock:
                if self._value is _MISSING:
                    self._value = serialize.loads(self.payload)
        return self._value

    def __repr__(self) -> str:
        return f"<Sealed {self.key!r} from {self.producer}, {self.payload.nbytes} bytes>"


class DataStore(MutableMapping[Any, Any]):
    """Mapping of key to value; reading opens.

    Parameters
    ----------
    values :
        Where open values live: a dict, unless the user brought a mapping of his own (``Worker(data=...)``). That one is
        touched under a lock only, and values are opened before they enter it.
    """

    def __init__(self, values: MutableMapping[Any, Any] | None = None) -> None:
        self.is_custom = values is not None
        self.values_by_key: MutableMapping[Any, Any] = {} if values is None else values
        self._lock = threading.RLock()

    # -- the mapping that users see as ``worker.data``

    def __getitem__(self, key: Key) -> Any:
        value = self.hold(key)
        return self.opened(value) if type(value) is Sealed else value

    def __setitem__(self, key: Key, value: Any) -> None:
        if self.is_custom:
            with self._lock:
                self.values_by_key[key] = value
        else:
            self.values_by_key[key] = value

    def __delitem__(self, key: Key) -> None:
        if not self.discard(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return key in self.values_by_key

    def __iter__(self) -> Iterator[Key]:
        return iter(list(self.values_by_key))

    def __len__(self) -> int:
        return len(self.values_by_key)

    def __repr__(self) -> str:
        return f"<DataStore: {len(self)} values>"

    # -- for the shell

    def hold(self, key: Key) -> Any:
        """The value or its :class:`Sealed`, without opening; it stays alive though the key be evicted meanwhile."""
        if self.is_custom:
            with self._lock:
                return self.values_by_key[key]
        return self.values_by_key[key]

    def hold_all(self, keys: Sequence[Key]) -> list[Any]:
        """As :meth:`hold`, of each key."""
        if self.is_custom:
            return [self.hold(key) for key in keys]
        values = self.values_by_key
        return [values[key] for key in keys]

    def opened(self, sealed: Sealed) -> Any:
        """The value of what :meth:`hold` gave; the store keeps it open from now on."""
        value = sealed.open()
        if self.values_by_key.get(sealed.key, _MISSING) is sealed:
            self.values_by_key[sealed.key] = value
        return value

    def opened_apart(self, arrived: dict[Key, Payload], producer: str) -> dict[Key, Payload]:
        """What has arrived, opened, for a custom mapping, which holds open values.

        To be called in a thread: opening runs code that came with the values, which may take its time. What cannot be
        opened stays sealed: whoever needs it will be told.
        """
        opened: dict[Key, Payload] = {}
        for key, payload in arrived.items():
            sealed = Sealed(key, payload, producer)
            try:
                opened[key] = serialize.live(sealed.open())
            except BaseException:
                opened[key] = serialize.live(sealed)
        return opened

    def seal(self, key: Key, payload: Payload, producer: str) -> None:
        """Keep what arrived from ``producer``; what came alive (same process, :meth:`opened_apart`) is open at once."""
        attached = payload.attached
        self[key] = attached.live if attached is not None and attached.is_live else Sealed(key, payload, producer)

    def replace(self, key: Key, value: Any, payload: Payload) -> None:
        """Keep ``payload`` in the place of ``value``, of which it is a copy, if that is still there and closed."""
        if not self.is_custom and self.values_by_key.get(key) is value:
            producer = value.producer if type(value) is Sealed else ""
            self.values_by_key[key] = Sealed(key, payload, producer)

    def discard(self, key: Key) -> bool:
        """Drop the value; whether there was one."""
        if not self.is_custom:
            return self.values_by_key.pop(key, _MISSING) is not _MISSING
        with self._lock:
            try:
                del self.values_by_key[key]
            except KeyError:
                return False
        return True

    def close(self) -> None:
        """Let every value go."""
        if not self.is_custom:
            self.values_by_key.clear()
            return
        with self._lock:
            close = getattr(self.values_by_key, "close", None)
            if callable(close):
                close()
