"""Requests that may wait: who waits for what, until when, and the answers on their way out. Pure.

Every operation of a table gets a :class:`Waiter` and answers it, at once or later. A waiter leaves its table in one of
four ways: it is answered; its time is up; it is withdrawn by its client; its client is gone. The last three are told to
the table (:meth:`Table.gone`), which strikes it off its line. Nothing here is per table, so no table can leak a waiter
or forget a deadline in a way of its own.
"""

from __future__ import annotations

import heapq
import math
from typing import Any, Protocol

Name = Any
"""What a primitive is called: text, bytes, a number or a tuple of these."""


class Waiter:
    """One request. ``timeout_s``: None waits as long as it takes, 0 not at all.

    ``wish`` and ``line`` belong to the table in which it waits; ``late`` is the answer when its time is up (an
    exception stands for an error). ``quiet``: nobody waits for the answer.
    """

    __slots__ = ("client", "deadline", "late", "line", "number", "over", "quiet", "table", "timeout_s", "wish")

    def __init__(self, client: str, number: int = 0, timeout_s: float | None = None) -> None:
        self.client = client
        self.number = number
        self.timeout_s = timeout_s
        self.deadline: float | None = None
        self.table: Table | None = None
        self.line: Any = None
        self.wish: Any = None
        self.late: Any = None
        self.over = False
        self.quiet = False

    def __repr__(self) -> str:
        return f"<Waiter {self.number} of {self.client}{' over' if self.over else ''}>"


def leave_lines(lines: dict[Any, Any], waiters: list[Waiter]) -> None:
    """Strike waiters off the lines they stand in, which are filed under their wishes; an empty line is forgotten."""
    for waiter in waiters:
        waiter.line.pop(waiter, None)
        if not waiter.line and lines.get(waiter.wish) is waiter.line:
            del lines[waiter.wish]


class Table(Protocol):
    """The server half of one primitive, as far as all have it in common."""

    def gone(self, waiters: list[Waiter], now: float) -> None:
        """These, which waited here, wait no longer and get nothing: none of them, before any consequence is drawn."""

    def client_left(self, client: str, now: float) -> None:
        """The client is gone; its waiters and leases are struck off already."""

    def validate(self) -> None:
        """Raise AssertionError when the table contradicts itself."""


class Waiters:
    """All requests that wait at one scheduler, and the answers that nobody has taken yet."""

    def __init__(self) -> None:
        self.answers: list[tuple[Waiter, Any]] = []
        self._open: dict[str, dict[int, Waiter]] = {}
        self._deadlines: list[tuple[float, int, Waiter]] = []
        self._n_open = 0
        self._n_pushed = 0

    def __len__(self) -> int:
        return self._n_open

    def new(self, client: str, number: int, timeout_s: float | None = None) -> Waiter:
        """A request that has come in. Raises TypeError or ValueError when it can be none."""
        if type(number) is not int or not (timeout_s is None or type(timeout_s) in (int, float)):
            raise TypeError(f"a request needs a number and a time limit in seconds, not {number!r} and {timeout_s!r}")
        if timeout_s is not None and not math.isfinite(timeout_s):
            raise ValueError(f"a time limit must be finite, not {timeout_s!r}")
        if number in self._open.get(client, ()):
            raise ValueError(f"request {number} of {client} waits already: numbers must be unique")
        return Waiter(client, number, timeout_s)

    def of_client(self, client: str) -> list[Waiter]:
        """Those of one client, in the order in which they came."""
        return list(self._open.get(client, {}).values())

    def take_answers(self) -> list[tuple[Waiter, Any]]:
        """The answers since the last call; an exception stands for an error."""
        answers, self.answers = self.answers, []
        return answers

    def answer(self, waiter: Waiter, value: Any) -> None:
        """Give it what it came for; the table has struck it off its line."""
        if waiter.over:
            raise AssertionError(f"{waiter!r} is answered twice")
        self._strike_off(waiter)
        self.answers.append((waiter, value))

    def wait(self, waiter: Waiter, table: Table, late: Any, now: float) -> bool:
        """Let it wait in ``table``. False when it must not wait: then it is answered with ``late``."""
        waiter.late = late
        if waiter.timeout_s is not None and waiter.timeout_s <= 0:
            self.answer(waiter, late)
            return False
        self._open.setdefault(waiter.client, {})[waiter.number] = waiter
        waiter.table = table
        self._n_open += 1
        if waiter.timeout_s is not None:
            waiter.deadline = now + waiter.timeout_s
            self._n_pushed += 1
            heapq.heappush(self._deadlines, (waiter.deadline, self._n_pushed, waiter))
        return True

    def park(self, waiter: Waiter, table: Table) -> None:
        """Let it stand by in ``table``, whatever its time limit, until :meth:`unpark`."""
        self._open.setdefault(waiter.client, {})[waiter.number] = waiter
        waiter.table = table
        waiter.late = RuntimeError("the request was withdrawn before it could begin")
        self._n_open += 1

    def unpark(self, waiter: Waiter) -> None:
        """As if it had just come in."""
        self._forget(waiter)
        waiter.table = waiter.wish = None

    def withdraw(self, client: str, number: int, now: float) -> None:
        """The client gives up: as if the time of the request were up now. Harmless when it does not wait (any more)."""
        waiter = self._open.get(client, {}).get(number)
        if waiter is not None:
            self._time_up(waiter, now)

    def client_left(self, client: str, now: float) -> None:
        """Nobody is there for the answers of this client."""
        by_table: dict[int, tuple[Table, list[Waiter]]] = {}
        for waiter in self.of_client(client):
            assert waiter.table is not None
            self._strike_off(waiter)
            by_table.setdefault(id(waiter.table), (waiter.table, []))[1].append(waiter)
        for table, waiters in by_table.values():
            table.gone(waiters, now)

    def next_deadline(self) -> float | None:
        """When the first waiter's time is up."""
        heap = self._deadlines
        if len(heap) > 64 and len(heap) > 2 * self._n_open:
            heap[:] = [entry for entry in heap if not entry[2].over]
            heapq.heapify(heap)
        while heap and heap[0][2].over:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def handle_deadline(self, now: float) -> None:
        """Answer those whose time is up."""
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            self._time_up(self._deadlines[0][2], now)

    def _time_up(self, waiter: Waiter, now: float) -> None:
        table, late = waiter.table, waiter.late
        assert table is not None
        self.answer(waiter, late)
        table.gone([waiter], now)

    def _strike_off(self, waiter: Waiter) -> None:
        waiter.over = True
        if waiter.table is not None:
            self._forget(waiter)

    def _forget(self, waiter: Waiter) -> None:
        of_client = self._open[waiter.client]
        del of_client[waiter.number]
        if not of_client:
            del self._open[waiter.client]
        self._n_open -= 1

    def validate(self) -> None:
        """Raise AssertionError when the books contradict themselves."""
        waiting = [waiter for of_client in self._open.values() for waiter in of_client.values()]
        assert len(waiting) == self._n_open, "the number of waiters is wrong"
        assert all(not waiter.over for waiter in waiting), "an answered waiter still waits"
        with_deadline = {id(entry[2]) for entry in self._deadlines}
        for waiter in waiting:
            assert waiter.deadline is None or id(waiter) in with_deadline, f"the deadline of {waiter!r} is not watched"
            assert waiter.line is None or waiter in waiter.line, f"{waiter!r} is not in its line"
