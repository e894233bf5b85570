"""An event of the cluster: a flag that many can wait for. Handle, and pure table.

An event that is not set and that nobody waits for is the same as one that was never made, and takes no room.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from distributed.coordination.handle import Handle, timeout_seconds
from distributed.coordination.homes import HOMES, MISS, Change, Home
from distributed.coordination.waiters import Name, Waiter, Waiters, leave_lines


class Event(Handle):
    """A flag that clients and tasks set, clear and wait for, like ``threading.Event``.

    It stays set until somebody clears it, whoever leaves meanwhile.

    Parameters
    ----------
    name : str, optional
        Events of one name are one. Default: a new name.
    client : Client, optional
        Default: that of the place where it is used.

    Examples
    --------
    >>> started = Event("started")  # doctest: +SKIP
    >>> started.wait(timeout=10)  # doctest: +SKIP
    """

    kind = table = "event"

    def __init__(self, name: Any = None, client: Any = None) -> None:
        super().__init__(name, client)

    def wait(self, timeout: Any = None) -> Any:
        """Wait until it is set.

        Parameters
        ----------
        timeout : float or str, optional
            Seconds (or text such as ``"10s"``). Default: without end.

        Returns
        -------
        bool
            False when time was up first. In coroutines on the client's loop: an awaitable of it.
        """
        timeout_s = timeout_seconds(timeout)
        return self._here(EventHome.wait, lambda: self._ask("event_wait", {"timeout": timeout_s}))

    def set(self) -> Any:
        """Set it, and let everybody go who waits."""
        return self._here(EventHome.set, lambda: self._do("event_set", {}))

    def clear(self) -> Any:
        """Whoever comes from now on waits again."""
        return self._here(EventHome.clear, lambda: self._do("event_clear", {}))

    def is_set(self) -> Any:
        """Whether it is set."""
        return self._here(EventHome.is_set, lambda: self._ask("event_is_set", {}))

    def __await__(self) -> Any:
        async def itself() -> Event:
            return self

        return itself().__await__()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name,)


class EventHome(Home):
    """An event that this client keeps."""

    __slots__ = ("flag", "told_flag")

    def __init__(self, kind: str, name: Name, lease: int, state: tuple[Any, ...]) -> None:
        super().__init__(kind, name, lease, state)
        self.flag: bool = state[0]
        self.told_flag = self.flag

    def wait(self) -> Any:
        return True if self.flag else MISS

    def is_set(self) -> bool:
        return self.flag

    def set(self) -> None:
        self.dirty |= not self.flag
        self.flag = True

    def clear(self) -> None:
        self.dirty |= self.flag
        self.flag = False

    def changes(self) -> list[Change]:
        if self.told_flag is self.flag:
            return []
        self.told_flag = self.flag
        return [("event_set" if self.flag else "event_clear", {})]


HOMES["event"] = EventHome


# -- server half -------------------------------------------------------------------------------------------------------


class Events:
    """All events of a scheduler. Pure."""

    def __init__(self, waiters: Waiters) -> None:
        self.are_set: dict[Name, None] = {}
        self.lines: dict[Name, OrderedDict[Waiter, None]] = {}
        self._waiters = waiters

    def wait(self, waiter: Waiter, now: float, name: Name) -> None:
        """Answered with True, or False when time is up."""
        if name in self.are_set:
            self._waiters.answer(waiter, True)
        elif self._waiters.wait(waiter, self, False, now):
            waiter.wish = name
            waiter.line = self.lines.setdefault(name, OrderedDict())
            waiter.line[waiter] = None

    def set(self, waiter: Waiter, now: float, name: Name) -> None:
        """Answered when it is set."""
        self.are_set[name] = None
        for waiting in self.lines.pop(name, ()):
            self._waiters.answer(waiting, True)
        self._waiters.answer(waiter, None)

    def clear(self, waiter: Waiter, now: float, name: Name) -> None:
        """Answered when it is not set."""
        self.are_set.pop(name, None)
        self._waiters.answer(waiter, None)

    def is_set(self, waiter: Waiter, now: float, name: Name) -> None:
        """Answered with whether it is set."""
        self._waiters.answer(waiter, name in self.are_set)

    def lend(self, name: Name, client: str, now: float) -> tuple[Any, ...] | None:
        """Whether it is set."""
        return None if name in self.lines else (name in self.are_set,)

    def gone(self, waiters: list[Waiter], now: float) -> None:
        """Out of the line."""
        leave_lines(self.lines, waiters)

    def client_left(self, client: str, now: float) -> None:
        """Events belong to nobody."""

    def validate(self) -> None:
        """Raise AssertionError when the table contradicts itself."""
        for name, line in self.lines.items():
            assert line, f"the empty line of {name!r} is not forgotten"
            assert name not in self.are_set, f"{name!r} is set, and somebody waits"
