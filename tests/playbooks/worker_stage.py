"""The stage of the worker core: lines become events, what comes out becomes text.

=================================================================== ==================================================
scheduler computes x#1 needs=y@a:8;z@b,c duration=0.1               ``priority=2`` ``resources=GPU:1`` ``+actor``
                                                                    ``+wanted`` ``timeout=5``; no ``@``: no holder
scheduler frees x y | drops x | copies x@a:8 | steals x#1           drops: only the copy
scheduler stops x#1 y#2                                             a client has cancelled them
scheduler says x@a,b | says x                                       who holds x now
scheduler sets closing_gracefully | defines f | closes
scheduler loses a                                                   a was given up, although its connections stand
executor returns x#1 nbytes=8 duration=0.1                          ``+unshippable``
executor raises x#1 | reschedules x#1 | skips x#1 | secedes x#1
a sends x y unreadable=z                                            answers a fetch; what is not named is not there
a refuses x y missing=z                                             no answer; ``missing``: it said so of these
store gets x=8 | gets x=8 +report | loses x
memory short | enough
time passes 0.5                                                     seconds, with all deadlines in them
why x                                                               asks the core; the answer comes out
=================================================================== ==================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from distributed.messages.payload import ErrorInfo, FunctionBlob, Payload
from distributed.messages.rules import RunRules
from distributed.messages.scheduler_to_worker import (
    AcquireReplicas,
    CloseWorkerOrder,
    ComputeTask,
    DefineFunction,
    FreeKeys,
    HoldersChanged,
    PeerLost,
    RemoveReplicas,
    SetStatus,
    StealRequest,
    StopRuns,
)
from distributed.worker.state_machine import WorkerSettings, WorkerState
from distributed.worker.state_machine.events import (
    DataLost,
    DataUpdated,
    ExecuteFailure,
    ExecuteLongRunning,
    ExecuteRescheduled,
    ExecuteSkipped,
    ExecuteSuccess,
    GatherDepFailure,
    GatherDepSuccess,
    Pause,
    Unpause,
)
from distributed.worker.state_machine.instructions import SendToScheduler
from distributed.worker.state_machine.task import TaskState
from tests.playbooks.notation import BadPlaybook, Line, address, line_of, message, need_of, run_of, show
from tests.playbooks.stage import Stage, Steps

BOOM = ErrorInfo("ValueError", "boom")
CANNOT_PICKLE = ErrorInfo("TypeError", "cannot be pickled")


class WorkerStage(Stage):
    """One core; its cast: ``threads``, ``resources``, ``settings``. The worker itself is ``me``."""

    def __init__(self, cast: dict[str, str]) -> None:
        amounts = line_of(f"me has resources={cast.get('resources', '')}").amounts("resources")
        settings = dict(item.split("=") for item in cast.get("settings", "").split())
        numbers = {name: float(v) if "." in v or name.endswith("_s") else int(v) for name, v in settings.items()}
        super().__init__(WorkerState(WorkerSettings(**numbers), address("me"), int(cast.get("threads", 1)), amounts))

    # Events

    def perform(self, line: Line) -> None:
        match line.who, line.verb:
            case "time", "passes":
                self.collect()
                self.wait(float(line.names[0]))
            case "why", key:
                self.collect()
                self.asked.append(f"{key}: {show(self.state.explain(key).text)}")
            case "scheduler", _:
                self.handle(self.of_scheduler(line))
            case "executor", _:
                self.handle(self.of_executor(line))
            case "store", "gets":
                self.handle(DataUpdated({key: int(line.take(key)) for key in self.keys(line)}, line.flag("report")))
            case "store", "loses":
                self.handle(DataLost(line.names, "the file is gone"))
            case "memory", "short":
                self.handle(Pause())
            case "memory", "enough":
                self.handle(Unpause())
            case peer, "sends":
                unreadable = dict.fromkeys(line.items("unreadable"), CANNOT_PICKLE)
                self.handle(GatherDepSuccess(address(peer), dict.fromkeys(line.names, 8), unreadable))
            case peer, "refuses":
                missing = line.items("missing")
                self.handle(GatherDepFailure(address(peer), [*line.names, *missing], missing, "refused"))
            case _:
                raise BadPlaybook(f"{line.text!r}: nobody does such a thing")

    @staticmethod
    def keys(line: Line) -> list[str]:
        return [name for name in line.options if not name.startswith("+")]

    def handle(self, event: Any) -> None:
        self.state.handle(event, self.now)
        self.state.validate()

    def of_scheduler(self, line: Line) -> Any:
        match line.verb:
            case "computes":
                return self.order(line)
            case "frees":
                return FreeKeys(line.names)
            case "stops":
                return StopRuns([run_of(word) for word in line.names], "cancelled")
            case "drops":
                return RemoveReplicas(line.names)
            case "copies":
                return AcquireReplicas([need_of(word) for word in line.names])
            case "steals":
                return StealRequest(*run_of(line.names[0]))
            case "says":
                return HoldersChanged([need_of(word) for word in line.names])
            case "sets":
                return SetStatus(line.names[0])
            case "loses":
                return PeerLost(address(line.names[0]), "given up")
            case "defines":
                return DefineFunction(FunctionBlob(b"f", Payload(b"pickle")))
            case "closes":
                return CloseWorkerOrder("as ordered")
        raise BadPlaybook(f"{line.text!r}: the scheduler does no such thing")

    def order(self, line: Line) -> ComputeTask:
        key, run_id = run_of(line.names[0])
        limit_s = line.number("timeout", 0)
        needs = tuple([need_of(word) for word in line.take("needs").split(";") if word])
        return ComputeTask(
            key,
            run_id,
            (0.0, 0.0, int(line.number("priority", run_id))),
            b"f",
            None,
            needs,
            line.number("duration", -1),
            line.flag("wanted"),
            line.amounts("resources") or None,
            actor=line.flag("actor"),
            rules=RunRules(limit_s) if limit_s else None,
        )

    def of_executor(self, line: Line) -> Any:
        key, run_id = run_of(line.names[0])
        match line.verb:
            case "returns":
                unshippable = CANNOT_PICKLE if line.flag("unshippable") else None
                nbytes, duration = int(line.number("nbytes", 8)), line.number("duration", 0.1)
                return ExecuteSuccess(key, run_id, nbytes, "int", duration, unshippable=unshippable)
            case "raises":
                return ExecuteFailure(key, run_id, BOOM)
            case "reschedules":
                return ExecuteRescheduled(key, run_id)
            case "skips":
                return ExecuteSkipped(run_id)
            case "secedes":
                return ExecuteLongRunning(key, run_id, line.number("duration", 0.1))
        raise BadPlaybook(f"{line.text!r}: the executor does no such thing")

    # What came out

    def collect(self) -> None:
        for item in self.state.outbox.take():
            if type(item) is SendToScheduler:
                self.collected += [f"to scheduler: {message(m)}" for m in item.messages]
            else:
                self.collected.append(f"shell: {message(item)}")
        self.state.validate()

    # What has changed

    def flush(self) -> None:
        self.collect()

    def forget_steps(self) -> None:
        self.state.steps.clear()

    def steps(self) -> tuple[list[str], Steps]:
        steps: Steps = {}
        for _, key, start, finish, _ in self.state.steps:
            steps.setdefault(f"task {key}", [start]).append(finish)
        return [], steps

    def views(self) -> Iterator[tuple[str, str]]:
        for key, ts in self.state.tasks.items():
            yield f"task {key}", "; ".join(self.of_task(ts))
        yield "worker", "; ".join(self.of_worker())

    def of_task(self, ts: TaskState) -> Iterator[str]:
        if ts.spec is not None:
            yield f"run {ts.run_id}"
        if ts.state == "waiting":
            yield f"waits for {ts.waiting_count}"
        if ts.dependents:
            yield f"needed by {','.join([d.key for d in ts.dependents])}"
        fetch = ts.fetch
        if fetch is not None:
            if fetch.peer is not None:
                yield f"asked from {show(fetch.peer)}"
            if fetch.holders:
                yield f"held by {show(list(fetch.holders))}"
            if fetch.acquired:
                yield "a copy for the scheduler"
        if ts.stale_runs:
            yield f"{ts.stale_runs} older runs"

    def of_worker(self) -> Iterator[str]:
        state = self.state
        yield state.status
        yield f"{state.slots_used} of {state.nthreads} slots"
        if state.handed:
            yield f"runs {','.join([f'{ts.key}#{run_id}' for run_id, ts in state.handed.items()])}"
        if state.stale:
            yield f"ends {','.join([f'{run.task.key}#{run_id}' for run_id, run in state.stale.items()])}"
        if state.nmemory:
            yield f"holds {state.nmemory} values ({state.managed_nbytes} bytes)"
        if state.resources.holding:
            yield f"free {show(state.resources.available)}"
        suspects = [show(peer) for peer in state.fetches.suspects if state.fetches.suspicion(peer)]
        if suspects:
            yield f"leaves alone {','.join(suspects)}"
