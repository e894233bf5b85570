"""Tasks whose futures lie in queues and variables: their keys are wanted here, so that the values stay. Pure.

A value that is handed out is *in transit* until its receiver says that it has made futures of its own; else the last
copy of a value could be released while its future is on its way. A receiver that is gone has its transits ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from distributed.base.keys import Key, as_key


class Stored:
    """One object of a user, never opened here, and the keys of the futures in it."""

    __slots__ = ("keys", "value")

    def __init__(self, value: Any, keys: Iterable[Key] = ()) -> None:
        self.value = value
        self.keys = tuple([as_key(key) for key in keys])


class HeldKeys:
    """How often each key is held, and what has changed since somebody last asked."""

    def __init__(self) -> None:
        self._counts: dict[Key, int] = {}
        self._wanted: dict[Key, None] = {}
        self._changed: dict[Key, None] = {}
        self._in_transit: dict[str, dict[int, tuple[Key, ...]]] = {}
        self._last_transit = 0

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def n_in_transit(self) -> int:
        """Values on their way."""
        return sum([len(transits) for transits in self._in_transit.values()])

    @property
    def has_changed(self) -> bool:
        """Whether there is something for :meth:`take_changes`."""
        return bool(self._changed)

    def hold(self, keys: Iterable[Key]) -> None:
        """Each once more."""
        for key in keys:
            self._counts[key] = self._counts.get(key, 0) + 1
            self._changed[key] = None

    def let_go(self, keys: Iterable[Key]) -> None:
        """Each once less."""
        for key in keys:
            left = self._counts[key] - 1
            if left:
                self._counts[key] = left
            else:
                del self._counts[key]
                self._changed[key] = None

    def hand_over(self, client: str, keys: tuple[Key, ...]) -> int:
        """The keys are on their way to a client; returns the number by which it confirms, 0 for no keys."""
        if not keys:
            return 0
        self.hold(keys)
        self._last_transit += 1
        self._in_transit.setdefault(client, {})[self._last_transit] = keys
        return self._last_transit

    def arrived(self, client: str, number: int) -> None:
        """The client has futures of its own now. Harmless when it has said so before."""
        transits = self._in_transit.get(client, {})
        keys = transits.pop(number, None)
        if keys is not None:
            if not transits:
                del self._in_transit[client]
            self.let_go(keys)

    def client_left(self, client: str) -> None:
        """Nothing is on its way to this client any more."""
        for keys in self._in_transit.pop(client, {}).values():
            self.let_go(keys)

    def take_changes(self) -> tuple[list[Key], list[Key]]:
        """Keys to be wanted from now on, and keys to be released.

        A key that came in is wanted anew even if it was wanted before: its task may have been cancelled meanwhile, and
        submitted again.
        """
        want, release = [], []
        for key in self._changed:
            if key in self._counts:
                self._wanted[key] = None
                want.append(key)
            elif key in self._wanted:
                del self._wanted[key]
                release.append(key)
        self._changed = {}
        return want, release
