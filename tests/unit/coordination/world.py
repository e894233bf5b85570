"""A small world around the tables: requests by name, answers by number, a clock of its own."""

from __future__ import annotations

from typing import Any

from distributed.coordination.tables import Tables


class World:
    """Tables, a clock, and the answers so far by ``(client, number)``."""

    def __init__(self, lease_timeout_s: float | None = 30.0, check_interval_s: float = 10.0) -> None:
        self.tables = Tables(lease_timeout_s, check_interval_s)
        self.now = 100.0
        self.answers: dict[tuple[str, int], Any] = {}
        self.wanted: set[Any] = set()
        self._numbers: dict[str, int] = {}

    def ask(self, client: str, op: str, timeout: float | None = None, **kwargs: Any) -> tuple[str, int]:
        """Returns the request; look for its answer in ``answers``."""
        number = self._numbers[client] = self._numbers.get(client, 0) + 1
        waiter = self.tables.waiters.new(client, number, timeout)
        self.tables.request(op, waiter, self.now, **kwargs)
        self.settle()
        return client, number

    def get(self, client: str, op: str, **kwargs: Any) -> Any:
        """The answer, which must be there at once."""
        answer = self.answers.pop(self.ask(client, op, **kwargs))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def leave(self, client: str) -> None:
        self.tables.client_left(client, self.now)
        self.settle()

    def withdraw(self, request: tuple[str, int]) -> None:
        self.get(request[0], "coordination_withdraw", request=request[1])

    def pass_time(self, seconds: float) -> None:
        """Up to then, every deadline is kept in its order."""
        end = self.now + seconds
        while (deadline := self.tables.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.tables.handle_deadline(self.now)
            self.settle()
            after = self.tables.next_deadline()
            assert after is None or after > deadline or after > self.now, "a deadline that does not move"
        self.now = end

    def settle(self) -> None:
        for client, (what, kind, _name, lease, _number, state) in self.tables.kept.take_news():
            assert what == "keep", "nobody keeps a name here"
            waiter = self.tables.waiters.new(client, -1)
            free = state[-1] if kind in ("semaphore", "multi_lock") else []
            self.tables.request("kept_returned", waiter, self.now, lease=lease, free=free, unwilling=True)
        want, release = self.tables.held.take_changes()
        assert not set(want) & set(release) and self.wanted >= set(release)
        self.wanted = (self.wanted | set(want)) - set(release)
        for waiter, value in self.tables.waiters.take_answers():
            request = waiter.client, waiter.number
            if waiter.number < 0:
                continue
            assert request not in self.answers, "answered twice"
            self.answers[request] = value
        self.tables.validate()

    def assert_empty(self) -> None:
        """Nothing is left of anything."""
        tables = self.tables
        assert not len(tables.waiters) and not len(tables.leases) and not len(tables.held)
        assert not tables.held.n_in_transit and not self.wanted
        assert not tables.semaphores.by_name and not tables.multi_locks.by_name and not tables.events.lines
        assert not tables.queues.by_name and not tables.variables.lines and not tables.pubsub.topics
