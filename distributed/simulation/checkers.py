"""What must hold, whatever happens. Pure.

After every event of a core its own tables are validated, and beyond them what the event may have changed:

* I1 each key is in one state of each core; at rest scheduler and workers agree on who holds what, and nothing runs.
* I2 no run begins twice (``ledger``); only the report of the current run makes a task finished.
* I3 nothing that a client wants, or that a needed task needs, is released; at rest clients and scheduler agree.
* I4 bytes, occupancy, resources and slots are the sums of what they stand for, and zero when idle.
* I5 retries and blame grow only by rule: a raise costs a retry, a death blames what was executing there.
* I8 after everything was released nothing is left anywhere.
* L1 every wanted key ends once faults have stopped, and until then ``explain`` says what it waits for.
"""

from __future__ import annotations

from typing import Any

from distributed.messages.nanny import WorkerProcessExited
from distributed.messages.worker_to_scheduler import TaskErred, TaskFinished, WorkerClosing
from distributed.scheduler.state_machine.entities import TaskState
from distributed.scheduler.state_machine.events import Restart, WorkerAway, WorkerJoined, WorkerLost
from distributed.scheduler.state_machine.state import SchedulerState
from distributed.simulation.client import NOT_DONE
from distributed.simulation.cluster import Cluster
from distributed.simulation.process import Process

# Events that may take a worker out; None is a deadline.
_REMOVALS = (WorkerLost, WorkerAway, WorkerProcessExited, WorkerClosing, WorkerJoined, Restart)
ENDED = frozenset(["memory", "erred"])


class Violation(AssertionError):
    """An invariant does not hold; the text names it and the culprits."""


def require(truth: object, rule: str, *culprits: object) -> None:
    """Raise ``Violation`` unless it is true."""
    if not truth:
        raise Violation(f"{rule}: {', '.join([repr(culprit) for culprit in culprits])}")


class EventRules:
    """Checks around each event of the scheduler's core: ``expect`` before it, ``check`` after it."""

    def __init__(self) -> None:
        self._task: TaskState | None = None
        self._current = False
        self._was = ""
        self._used = 0
        self._blame: dict[TaskState, tuple[int, int, str, int]] = {}

    def expect(self, core: SchedulerState, event: Any, source: str) -> None:
        """Take note of what the event may change."""
        kind = type(event)
        if kind is TaskFinished or kind is TaskErred:
            ts = self._task = core.tasks.get(event.key)
            if ts is not None:
                on = ts.processing_on
                self._current = on is not None and on.address == source and ts.run_id == event.run_id
                self._was = ts.state
                self._used = _used(ts)
        elif event is None or kind in _REMOVALS:
            self._blame = {
                ts: (ts.suspicious, ts.run_id, ws.address, _used(ts))
                for ws in core.workers.values()
                for ts in ws.processing
            }

    def check(self, core: SchedulerState, event: Any, source: str) -> None:
        """Compare."""
        kind = type(event)
        if kind is TaskFinished:
            self._check_finished(event)
        elif kind is TaskErred:
            self._check_erred(event)
        if self._blame:
            self._check_blame(core, event)
            self._blame = {}

    def _check_finished(self, event: TaskFinished) -> None:
        ts = self._task
        if ts is None:
            return
        if self._current:
            require(ts.state in ("memory", "forgotten", "released"), "I2 the current run's value counts", ts, event)
        else:
            require(ts.state == self._was, "I2 only the current run's report counts", ts, event)

    def _check_erred(self, event: TaskErred) -> None:
        ts = self._task
        if ts is None:
            return
        used = _used(ts)
        if not self._current:
            require(ts.state == self._was and used == self._used, "I2 only the current run's report counts", ts, event)
        elif event.retriable and self._used < ts.policy.retries:
            require(used == self._used + 1, "I5 a raise costs one retry", ts, used)
            require(ts.state != "erred", "I5 a task with retries left is run again", ts)
        else:
            require(used == self._used, "I5 no more retries are used than there are", ts, used)
            require(ts.state in ("erred", "forgotten"), "I5 a task without retries left fails", ts)

    def _check_blame(self, core: SchedulerState, event: Any) -> None:
        kind = type(event)
        for ts, (before, run_id, address, used) in self._blame.items():
            require(_used(ts) == used, "I5 what machines do costs no retry", ts, event)
            if ts.state == "released" and not ts.suspicious and before >= core.settings.allowed_failures:
                continue  # one death too many, but not needed any more since another task has failed of it: forgiven
            grown = ts.suspicious - before
            removed = address not in core.workers
            if kind is WorkerProcessExited and event.executing is not None:
                guilty = removed and event.worker == address and not event.expected and run_id in event.executing
                require(grown == guilty, "I5 blamed is what was executing where a process died", ts, grown, event)
            elif kind in (WorkerClosing, Restart):
                require(not grown, "I5 an orderly end blames nobody", ts, event)
            else:
                require(grown in (0, 1) and (removed or not grown), "I5 a death is blamed once", ts, grown, event)
            if ts.suspicious > core.settings.allowed_failures:
                require(ts.state not in ("waiting", "processing"), "I5 who has killed too many is given up", ts)


def _used(ts: TaskState) -> int:
    return ts.rare.retries_used if ts.rare is not None else 0


def check_tables(core: SchedulerState) -> None:
    """The whole of the scheduler's tables."""
    core.validate()
    allowed = core.settings.allowed_failures
    for ts in core.tasks.values():
        rare = ts.rare
        if rare is not None and rare.error is not None and rare.error.type_name == "KilledWorker":
            blame = rare.blame
            require(blame is not None and blame.suspicious > allowed, "I5 given up is who killed too many", ts, blame)


def check_process(process: Process) -> None:
    """The whole of a worker's tables, and its store."""
    process.core.validate()
    held = {key for key, ts in process.core.tasks.items() if ts.state == "memory"}
    require(held == process.store.keys(), "I4 the store holds what the core thinks", process.address, held)
    plan = process.core.spilling
    files, absent = {ts.key for ts in plan.files}, {ts.key for ts in plan.absent}
    require(files == process.files.keys(), "I4 the files are those that the core knows", process.address, files)
    require(absent == process.spilled, "I4 on disk only is what the core thinks", process.address, absent)


def check_reasons(cluster: Cluster, most: int = 20) -> None:
    """L1: whoever waits is told why."""
    core = cluster.core
    for name in cluster.clients:
        cs = core.clients.get(name)
        pending = [ts for ts in cs.wants_what if ts.state not in ENDED] if cs is not None else []
        for ts in pending[:most]:
            why = core.explain(ts.key)
            require(why.text and why.state == ts.state, "L1 a task that waits has a reason", ts, why)
            on = ts.processing_on
            process = cluster.network.peers.get(on.address) if on is not None else None
            if isinstance(process, Process) and ts.key in process.core.tasks:
                require(process.core.explain(ts.key).text, "L1 a task that waits on a worker has a reason", ts)


def pending_keys(cluster: Cluster) -> list[tuple[str, Any]]:
    """(client, key) of all futures that have not ended."""
    return [
        (client.name, key)
        for client in cluster.clients.values()
        for key, status in client.states.items()
        if status in NOT_DONE
    ]


def is_quiet(cluster: Cluster) -> bool:
    """Whether nothing is under way anywhere."""
    core = cluster.core
    if (
        core.retirements
        or core.moves
        or core.announced
        or core.vanished
        or core.away
        or core.steals
        or not cluster.network.quiet
    ):
        return False
    if any(node.process is None and not node.ended for node in cluster.nodes.values()):
        return False
    for process in cluster.processes():
        if process.executor.busy or any(ts.state != "memory" for ts in process.core.tasks.values()):
            return False
        if not process.registered or not process.connected or not process.connection.quiet:
            return False
    return all(client.connected and client.connection.quiet for client in cluster.clients.values())


def check_agreement(cluster: Cluster) -> None:
    """I1, I3, I4 at rest: all sides have the same view, and nothing runs."""
    core = cluster.core
    for client in cluster.clients.values():
        wants = {ts.key for ts in core.clients[client.name].wants_what}
        require(wants == client.states.keys(), "I3 clients' futures are what the scheduler thinks they want",
                client.name, wants ^ client.states.keys())  # fmt: skip
        for key, status in client.states.items():
            ts = core.tasks[key]
            told = {"memory": "finished", "erred": "error"}.get(ts.state)
            require(status == told, "I3 clients know how their futures ended", client.name, ts, status)
    here = {process.address: process for process in cluster.processes()}
    require(here.keys() == core.workers.keys(), "I1 the workers that live are those that are known",
            here.keys() ^ core.workers.keys())  # fmt: skip
    for address, process in here.items():
        ws = core.workers[address]
        believed = {ts.key for ts in ws.has_what}
        held = process.store.keys()
        believed -= cluster.outlived(process)
        require(believed == held, "I1 both sides agree on who holds what", address, believed ^ held)
        require(not ws.processing and not ws.occupancy, "I4 an idle worker has no work", ws, ws.processing)
        require(not any(ws.used_resources.values()), "I4 an idle worker uses no resources", ws, ws.used_resources)
        outlived = sum([max(0, core.tasks[key].nbytes) for key in cluster.outlived(process)])
        require(ws.nbytes - outlived == process.core.managed_nbytes, "I4 both sides agree on bytes", ws, ws.nbytes)
        require(ws.status_name == process.core.status == "running", "I1 both sides agree on the status", ws)
        worker = process.core
        require(not (worker.handed or worker.stale or worker.slots_used), "I1 nothing runs", address, worker.handed)
    require(not cluster.runs.going_on, "I1 nothing runs", cluster.runs.going_on)


def check_nothing_left(cluster: Cluster) -> None:
    """I8 after all futures were released."""
    core = cluster.core
    require(not core.tasks, "I8 no task is left", list(core.tasks.values())[:5])
    require(not core.task_groups, "I8 no group is left", list(core.task_groups))
    for name in ("unrunnable", "steals", "vanished", "away", "retirements", "moves", "announced", "ready"):
        require(not getattr(core, name), f"I8 {name} is empty", getattr(core, name))
    require(not len(core.queued), "I8 the queue is empty", len(core.queued))
    for cs in core.clients.values():
        require(not cs.wants_what and not cs.pins, "I8 no client wants anything", cs)
    due = core.next_deadline()
    require(not cluster.shuffles.plan.runs, "I8 no shuffle is left", cluster.shuffles.plan.runs)
    require(due is None or core.settings.worker_ttl_s is not None, "I8 no timer is left", due)
    for ws in core.workers.values():
        require(not (ws.has_what or ws.processing or ws.actors or ws.nbytes), "I8 a worker has nothing", ws)
    for process in cluster.processes():
        shares = process.shuffle.shares
        require(not shares, "I8 a worker holds nothing of shuffles", process.address, list(shares))
        worker = process.core
        left_keys = worker.tasks.keys() | process.store.keys()
        require(not left_keys, "I8 a worker keeps nothing", process.address, worker.tasks)
        left = (worker.backlog_s, worker.slots_used, len(worker.missing), len(worker.fetches.flights))
        require(not any(left), "I8 a worker has nothing under way", process.address, left)
        resources = worker.resources
        require(resources.available == resources.total, "I8 resources are free", process.address, resources.available)
