"""A variable of the cluster: one value under a name. Handle, and pure table.

The value is a pickle that is never opened here. Futures in it stay alive as long as it is the value.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from distributed.base.keys import Key
from distributed.coordination.handle import Handle, timeout_seconds
from distributed.coordination.held_keys import HeldKeys, Stored
from distributed.coordination.homes import HOMES, MISS, Change, Home
from distributed.coordination.values import is_small, opened, pack, unpack
from distributed.coordination.waiters import Name, Waiter, Waiters, leave_lines
from distributed.messages.payload import Payload


class Variable(Handle):
    """One value that clients and tasks set and read: anything that can be pickled, futures in it at will.

    It stays until it is deleted, whoever leaves meanwhile, and keeps the results of its futures alive.

    Parameters
    ----------
    name : str, optional
        Variables of one name are one. Default: a new name.
    client : Client, optional
        Default: that of the place where it is used.

    Examples
    --------
    >>> limit = Variable("limit")  # doctest: +SKIP
    >>> limit.set(5)  # doctest: +SKIP
    >>> limit.get(timeout=10)  # doctest: +SKIP
    5
    """

    kind = table = "variable"

    def __init__(self, name: Any = None, client: Any = None) -> None:
        super().__init__(name, client)

    def set(self, value: Any, timeout: Any = "30 s", **kwargs: Any) -> Any:
        """Give it a value, in place of the one that it has.

        Parameters
        ----------
        value
            Anything that can be pickled.
        timeout
            Accepted, without effect: nothing has to be waited for.
        """
        timeout_seconds(timeout)
        packed = pack(value, self.client)
        do = self._do if is_small(packed["value"]) else self._ask
        return self._here(lambda home: home.set(packed), lambda: do("variable_set", packed, keep=value))

    def get(self, timeout: Any = None, **kwargs: Any) -> Any:
        """The value; wait until there is one.

        Parameters
        ----------
        timeout : float or str, optional
            Seconds (or text such as ``"10s"``) to wait. Default: without end.

        Raises
        ------
        TimeoutError
            It had no value all the time.
        RuntimeError
            It was deleted meanwhile.
        """
        timeout_s = timeout_seconds(timeout)
        return self._here(
            VariableHome.get,
            lambda: self._ask("variable_get", {"timeout": timeout_s}, self._opened, self._opened),
            opened,
        )

    def _opened(self, answer: Any) -> Any:
        value, keys, transit = answer
        return unpack([value], keys, transit, self.client)[0]

    def delete(self) -> Any:
        """Forget the value; whoever waits for one gets an error. Harmless when there is none."""
        return self._here(VariableHome.delete, lambda: self._do("variable_delete", {}))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name,)


class VariableHome(Home):
    """A variable that this client keeps."""

    __slots__ = ("value",)

    def __init__(self, kind: str, name: Name, lease: int, state: tuple[Any, ...]) -> None:
        super().__init__(kind, name, lease, state)
        self.value: Payload | None = state[0] if state else None

    def set(self, packed: dict[str, Any]) -> Any:
        if "keys" in packed or not is_small(packed["value"]):
            return MISS
        self.value = packed["value"]
        self.dirty = True
        return None

    def get(self) -> Any:
        return MISS if self.value is None else self.value

    def delete(self) -> None:
        self.value = None
        self.dirty = True

    def changes(self) -> list[Change]:
        return [("variable_delete", {}) if self.value is None else ("variable_set", {"value": self.value})]


HOMES["variable"] = VariableHome


# -- server half -------------------------------------------------------------------------------------------------------


class Variables:
    """All variables of a scheduler. Pure."""

    def __init__(self, waiters: Waiters, held: HeldKeys) -> None:
        self.values: dict[Name, Stored] = {}
        self.lines: dict[Name, OrderedDict[Waiter, None]] = {}
        self._waiters = waiters
        self._held = held

    def set(self, waiter: Waiter, now: float, name: Name, value: Any, keys: Iterable[Key] = ()) -> None:
        """Answered when it has the value."""
        stored = Stored(value, keys)
        self._held.hold(stored.keys)
        old = self.values.get(name)
        if old is not None:
            self._held.let_go(old.keys)
        self.values[name] = stored
        for waiting in self.lines.pop(name, ()):
            self._give(waiting, stored)
        self._waiters.answer(waiter, None)

    def get(self, waiter: Waiter, now: float, name: Name) -> None:
        """Answered with ``(value, keys, transit)``, or a TimeoutError."""
        stored = self.values.get(name)
        if stored is not None:
            self._give(waiter, stored)
            return
        late = TimeoutError(f"the variable {name!r} has had no value for {waiter.timeout_s} s")
        if self._waiters.wait(waiter, self, late, now):
            waiter.wish = name
            waiter.line = self.lines.setdefault(name, OrderedDict())
            waiter.line[waiter] = None

    def delete(self, waiter: Waiter, now: float, name: Name) -> None:
        """Answered when it has no value."""
        stored = self.values.pop(name, None)
        if stored is not None:
            self._held.let_go(stored.keys)
        for waiting in self.lines.pop(name, ()):
            self._waiters.answer(waiting, RuntimeError(f"the variable {name!r} was deleted while get() waited for it"))
        self._waiters.answer(waiter, None)

    def _give(self, waiter: Waiter, stored: Stored) -> None:
        transit = self._held.hand_over(waiter.client, stored.keys)
        self._waiters.answer(waiter, (stored.value, list(stored.keys), transit))

    def lend(self, name: Name, client: str, now: float) -> tuple[Any, ...] | None:
        """The value, if there is one. Futures and large values stay here."""
        if name in self.lines:
            return None
        stored = self.values.get(name)
        if stored is None:
            return ()
        return (stored.value,) if not stored.keys and is_small(stored.value) else None

    def gone(self, waiters: list[Waiter], now: float) -> None:
        """Out of the line."""
        leave_lines(self.lines, waiters)

    def client_left(self, client: str, now: float) -> None:
        """Values belong to nobody."""

    def validate(self) -> None:
        """Raise AssertionError when the table contradicts itself."""
        for name, line in self.lines.items():
            assert line, f"the empty line of {name!r} is not forgotten"
            assert name not in self.values, f"{name!r} has a value, and somebody waits for one"
