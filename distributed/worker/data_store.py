"""The values that a worker holds, by key. Shell, but without I/O of its own.

A value is either *open* (the object) or *sealed*: the bytes that arrived from another worker, unpickled when a task
first needs it. Sealed values cost the event loop nothing; an error in unpickling becomes an error of the task that
needs the value, and a crash in it is blamed on that task; what is only passed on is never unpickled at all. Or it is
on disk (``SpillFile``), or both in memory and on disk. Slot threads read and open, the loop writes. Which keys should
be here, and which of them on disk, is decided by the state machine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from distributed.base.keys import Key
from distributed.messages.payload import Payload
from distributed.protocol import serialize
from distributed.worker.spill_file import SpillFile

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

    @property
    def value(self) -> Any:
        """The value if it is open; else an object that is no value."""
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
        self.files: dict[Key, SpillFile] = {}
        self.on_evict: Callable[[], int] = _evict_nothing
        self._lock = threading.RLock()

    # -- the mapping that users see as ``worker.data``

    def __getitem__(self, key: Key) -> Any:
        value = self.hold(key)
        if type(value) is SpillFile:
            return value.open()  # a look at it does not bring it back
        return self.opened(value) if type(value) is Sealed else value

    def __setitem__(self, key: Key, value: Any) -> None:
        if self.is_custom:
            with self._lock:
                self.values_by_key[key] = value
        else:
            self.values_by_key[key] = value
            if self.files:
                self.files.pop(key, None)

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

    @property
    def fast(self) -> Mapping[Key, Any]:
        """What is in memory; a copy."""
        return {key: value for key, value in list(self.values_by_key.items()) if type(value) is not SpillFile}

    @property
    def slow(self) -> Mapping[Key, SpillFile]:
        """The files of what is on disk only; a copy."""
        return {key: value for key, value in list(self.values_by_key.items()) if type(value) is SpillFile}

    def evict(self) -> int:
        """Send the value that was used least recently to disk. Returns its bytes, -1 when there is none that may go."""
        return self.on_evict()

    # -- for the shell

    def hold(self, key: Key) -> Any:
        """The value, its :class:`Sealed` or its ``SpillFile``, without opening; it stays alive though the key be
        evicted meanwhile."""
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

    def opened(self, closed: Sealed | SpillFile) -> Any:
        """The value of what :meth:`hold` gave; the store keeps it open from now on.

        Raises ``OSError`` when the file is gone or damaged, else what unpickling raises.
        """
        key = closed.key
        if type(closed) is SpillFile and self.files.get(key) is closed:
            value = self.values_by_key.get(key, closed)
            if value is not closed:
                return value  # another task was quicker
        value = closed.open()
        with self._lock:
            if self.values_by_key.get(key, _MISSING) is closed:
                self.values_by_key[key] = value
        return value

    def replace_by_file(self, value: Any, file: SpillFile) -> bool:
        """``value`` has been written: let it go, unless the key has another one by now; whether it has not."""
        key = file.key
        with self._lock:
            found = self.values_by_key.get(key, _MISSING)
            if found is not value and not (type(value) is Sealed and found is value.value):
                return False
            self.values_by_key[key] = self.files[key] = file
        return True

    def unload(self, key: Key) -> None:
        """Let the value go, there is a file of it."""
        with self._lock:
            self.values_by_key[key] = self.files[key]

    def remove_file(self, key: Key) -> None:
        """The file goes as soon as nobody reads it; if its value is not in memory, reading it brings it back."""
        self.files.pop(key, None)

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
            if self.files and (file := self.files.pop(key, None)) is not None:
                file.remove()
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
            self.files.clear()
            return
        with self._lock:
            close = getattr(self.values_by_key, "close", None)
            if callable(close):
                close()


def _evict_nothing() -> int:
    return -1
