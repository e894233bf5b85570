"""A worker core under glass: events in, instructions claimed one by one.

``Env`` validates after each event, and ``env.done()`` (called by the fixture) fails on any instruction that the test
has not claimed.
"""

from __future__ import annotations

from typing import Any, TypeVar

from distributed.base.keys import Key
from distributed.messages.payload import ErrorInfo
from distributed.messages.scheduler_to_worker import ComputeTask, FreeKeys, TaskNeed
from distributed.worker.state_machine import WorkerSettings, WorkerState
from distributed.worker.state_machine.events import ExecuteFailure, ExecuteSuccess, GatherDepFailure, GatherDepSuccess
from distributed.worker.state_machine.instructions import Execute, GatherDep, SendToScheduler

ME = "tcp://10.0.0.1:1"
A = "tcp://10.0.0.2:1"
B = "tcp://10.0.0.3:1"
NEAR = "tcp://10.0.0.1:2"
ERROR = ErrorInfo("ValueError", "no")
Kind = TypeVar("Kind")


def a_task(key: Key, run_id: int, *needs: Any, rank: int | None = None, **fields: Any) -> ComputeTask:
    """An order; a need is a key, or a key and its holders."""
    wants = tuple([TaskNeed(n, (), 8) if type(n) is str else TaskNeed(n[0], tuple(n[1:]), 8) for n in needs])
    return ComputeTask(key, run_id, (0.0, 0.0, run_id if rank is None else rank), b"f", None, wants, **fields)


class Env:
    """A worker core, its clock, and the instructions that were not claimed yet."""

    def __init__(self, nthreads: int = 1, resources: dict[str, float] | None = None, **settings: Any) -> None:
        self.state = WorkerState(WorkerSettings(**settings), ME, nthreads, resources)
        self.now = 0.0
        self.open: list[Any] = []

    def send(self, *events: Any) -> Env:
        """One batch of events."""
        for event in events:
            self.state.handle(event, self.now)
            self.state.validate()
        return self._take()

    def wait(self, seconds: float) -> Env:
        """Let time pass, with every deadline in it."""
        end = self.now + seconds
        while (due := self.state.next_deadline()) is not None and due <= end:
            self.now = max(due, self.now)
            self.state.handle_deadline(self.now)
            self.state.validate()
            self._take()
        self.now = end
        return self

    def _take(self) -> Env:
        for instruction in self.state.outbox.take():
            self.open += instruction.messages if type(instruction) is SendToScheduler else [instruction]
        self.state.validate()
        return self

    def claim(self, kind: type[Kind]) -> Kind:
        """The only open instruction or message of this kind."""
        found = self.claim_all(kind)
        assert len(found) == 1, f"{kind.__name__}: {found}, others: {self.open}"
        return found[0]

    def claim_all(self, kind: type[Kind]) -> list[Kind]:
        """All open instructions or messages of this kind."""
        found = [item for item in self.open if type(item) is kind]
        self.open = [item for item in self.open if type(item) is not kind]
        return found

    def executed(self) -> list[Key]:
        """Keys that were handed over, in order."""
        return [item.key for item in self.claim_all(Execute)]

    def gathered(self) -> dict[str, list[Key]]:
        """Keys that were asked for, by peer."""
        return {item.worker: item.keys for item in self.claim_all(GatherDep)}

    def states(self) -> dict[Key, str]:
        """State of every key."""
        return {key: ts.state for key, ts in self.state.tasks.items()}

    def done(self) -> None:
        """Nothing may be left unclaimed."""
        assert not self.open, f"unclaimed: {self.open}"


def success(key: Key, run_id: int, nbytes: int = 8, **fields: Any) -> ExecuteSuccess:
    """The run has returned."""
    return ExecuteSuccess(key, run_id, nbytes, "int", **{"duration_s": 0.001, **fields})


def failure(key: Key, run_id: int) -> ExecuteFailure:
    """The run has raised."""
    return ExecuteFailure(key, run_id, ERROR)


def arrived(worker: str, *keys: Key, nbytes: int = 8) -> GatherDepSuccess:
    """The peer has sent these."""
    return GatherDepSuccess(worker, dict.fromkeys(keys, nbytes))


def unreachable(worker: str, *keys: Key) -> GatherDepFailure:
    """The peer cannot be reached."""
    return GatherDepFailure(worker, keys, (), "refused")


def free(*keys: Key) -> FreeKeys:
    """The scheduler does not want these here."""
    return FreeKeys(list(keys))
