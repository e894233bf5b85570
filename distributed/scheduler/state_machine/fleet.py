"""Workers come, change and go. Pure.

A death is blamed on the tasks that were executing: the nanny's report names their run ids, and the one whose thread has
ended the process if that is known; without a report it is the first by priority, one a thread. A worker with a nanny
that vanished is kept aside for ``exit_report_s``: the report names the cause.

A broken connection is no death: the worker is *away* for up to ``worker_grace_s``. It keeps its tasks and its data, and
gets no new tasks; nothing is stolen from it or computed again. It comes back, or is known to be dead, or is given up.
"""

from __future__ import annotations

from distributed.messages.nanny import WorkerProcessExited
from distributed.messages.payload import ErrorInfo
from distributed.scheduler.state_machine.entities import DeathRecord, TaskState, WorkerState
from distributed.scheduler.state_machine.events import WorkerJoined
from distributed.scheduler.state_machine.instructions import RetirementEnded, WorkerRefused, WorkerRemoved
from distributed.scheduler.state_machine.queuing import sort_by_priority
from distributed.scheduler.state_machine.tables import Absence, Tables, Vanished, note
from distributed.scheduler.state_machine.transitions.assign import requeue
from distributed.scheduler.state_machine.transitions.fail import fail
from distributed.scheduler.state_machine.transitions.lost import lose_values, remove_replica

LEAST_GRACE_S = 5.0
"""A worker whose connection breaks after a long silence still has so long to come back."""


def join(state: Tables, event: WorkerJoined) -> None:
    """A worker has registered. A taken name is refused; a taken address means that the old worker is dead."""
    info = event.info
    holder = state.aliases.get(info.name)
    if holder is not None:
        former = state.workers[holder]
        gone = state.vanished.get(former) or state.away.get(former)
        if gone is not None:
            # No report of its end has come, and none is needed any more: its successor is here.
            remove(state, former, gone.cause, blame=True)
            holder = None
    if holder is not None and holder != info.address:
        state.out.instructions.append(WorkerRefused(info.address, f"name taken: a worker named {info.name!r} exists"))
        return
    old = state.workers.get(info.address)
    if old is not None:
        remove(state, old, "replaced by a new worker at the same address", blame=False)
    state.n_workers_seen += 1
    settings = state.settings
    ws = WorkerState(info, state.n_workers_seen, settings.saturation, settings.prefetch_s, state.now)
    state.workers[info.address] = ws
    state.aliases[info.name] = info.address
    state.hosts.setdefault(info.host, {})[ws] = None
    set_status(state, ws, "running")
    if len(state.workers) == 1:
        # Others may follow at once.
        state.unrunnable.begin_anew(state.now + settings.tell_no_worker_s)


def set_status(state: Tables, ws: WorkerState, status: str) -> None:
    """The worker's status has changed: it may be given tasks, or no longer."""
    ws.status_name = status
    in_touch = ws.alive and ws.suspect_since is None and ws not in state.away
    ws.running = in_touch and status == "running" and ws.nthreads > 0
    if ws.running:
        state.running[ws] = None
    else:
        state.running.pop(ws, None)
    _fleet_changed(state)
    state.touched[ws] = None


def set_nthreads(state: Tables, ws: WorkerState, nthreads: int) -> None:
    """The worker has got more or fewer threads."""
    ws.set_nthreads(nthreads, state.settings.saturation, state.settings.prefetch_s)
    set_status(state, ws, ws.status_name)


def _fleet_changed(state: Tables) -> None:
    state.epoch += 1
    state.fleet_changed = True


def go_away(state: Tables, ws: WorkerState, cause: str) -> None:
    """The connection broke; the worker may come back."""
    grace = state.settings.worker_grace_s
    if grace is not None and grace <= 0:
        lose(state, ws, cause)
    elif ws.alive and ws not in state.away:
        # It was last heard some time before the connection broke, which counts; but one has to get here first.
        deadline = None if grace is None else max(ws.last_seen + grace, state.now + min(grace, LEAST_GRACE_S))
        state.away[ws] = Absence(cause, state.now, deadline)
        set_status(state, ws, ws.status_name)


def lose(state: Tables, ws: WorkerState, cause: str) -> None:
    """The worker is gone, and will not come back."""
    state.away.pop(ws, None)
    if ws.nanny is None or state.settings.exit_report_s <= 0:
        remove(state, ws, cause, blame=True)
        return
    if ws in state.vanished:
        return
    ws.alive = False
    state.out.drop_worker(ws.address)
    state.vanished[ws] = Vanished(cause, state.now + state.settings.exit_report_s)
    set_status(state, ws, "closed")


def process_exited(state: Tables, event: WorkerProcessExited) -> None:
    """The nanny knows how the process ended."""
    ws = state.workers.get(event.worker)
    if ws is None or (ws.pid and event.pid and ws.pid != event.pid):
        return
    if event.signal is not None:
        cause = f"killed by signal {event.signal}"
    elif event.exit_code is not None:
        cause = f"exited with code {event.exit_code}"
    else:
        cause = "process ended"
    if event.cause:
        cause += f": {event.cause}"
    remove(state, ws, cause, blame=not event.expected, report=event)


def remove(
    state: Tables,
    ws: WorkerState,
    cause: str,
    blame: bool,
    report: WorkerProcessExited | None = None,
    expected: bool = False,
) -> None:
    """The worker is gone for good: run its tasks elsewhere, compute its values again."""
    ws.alive = False
    state.vanished.pop(ws, None)
    state.away.pop(ws, None)
    if state.retirements.pop(ws, None) is not None:
        n_left = sum([len(ts.who_has) == 1 for ts in ws.has_what])
        reason = f"the worker went away before it was empty: {cause}"
        state.out.instructions.append(RetirementEnded(ws.address, False, reason, n_left))
    state.out.drop_worker(ws.address)
    set_status(state, ws, "closed")
    del state.workers[ws.address]
    if state.aliases.get(ws.info.name) == ws.address:
        del state.aliases[ws.info.name]
    there = state.hosts[ws.host]
    del there[ws]
    if not there:
        del state.hosts[ws.host]
    for steal_ts in [ts for ts, steal in state.steals.items() if steal.thief is ws]:
        # The victim's answer finds no thief: the task is placed anew.
        state.steals[steal_ts].thief = state.steals[steal_ts].victim
    for move in state.moves.values():
        move.to.pop(ws, None)
    state.moves = {ts: move for ts, move in state.moves.items() if move.to}

    tasks = list(ws.processing)
    sort_by_priority(tasks)
    begun = _begun(ws, tasks, report)
    n_requeued = sum([not ts.n_waiting for ts in tasks if ts not in begun])
    death = _death(ws, cause, report) if blame else None
    killed = _rerun_tasks(state, tasks, _culprits(begun, report), death)
    n_rerun = len(begun) - len(killed)
    lost = [ts for ts in list(ws.has_what) if remove_replica(state, ts, ws)]
    n_recomputed = lose_values(state, lost, ws.address, cause)
    for ts in killed:
        if ts.state in ("waiting", "processing", "queued", "no-worker"):
            fail(state, ts, killed_error(state, ts))
        elif ts.state == "released":  # not needed, since another one has failed; a retry of that is a new beginning
            ts.make_rare().forgive()
    state.touched.pop(ws, None)
    if ws.level >= 0:
        del state.levels[ws.level][ws]
        ws.level = -1
    state.idle.pop(ws.address, None)
    state.saturated.pop(ws, None)
    state.retire_again = True
    state.out.instructions.append(
        WorkerRemoved(ws.address, str(ws.name), cause, expected or not blame, n_rerun, n_requeued, n_recomputed, death)
    )


def _rerun_tasks(
    state: Tables, tasks: list[TaskState], culprits: dict[TaskState, None], death: DeathRecord | None
) -> list[TaskState]:
    """Put the worker's tasks back, some of which are to blame for its death. Returns those that have killed too many
    workers."""
    killed: list[TaskState] = []
    for ts in tasks:
        if ts.processing_on is not None:  # else it was sent ahead, and came back with an input
            requeue(state, ts, free=False)
        if death is None or ts not in culprits:
            continue
        rare = ts.make_rare()
        rare.suspicious += 1
        ts.prefix.suspicious += 1
        rare.deaths.append(death)
        note(state, ts.key, "blamed", f"{death.worker}: {death.cause}")
        if rare.suspicious > state.settings.allowed_failures:
            killed.append(ts)
    return killed


def _begun(ws: WorkerState, tasks: list[TaskState], report: WorkerProcessExited | None) -> dict[TaskState, None]:
    """The tasks that were being executed (also one sent ahead, when the news of its input was lost with the worker);
    when nobody knows, as many as there are threads, and the detached ones."""
    if report is not None and report.executing is not None:
        executing = frozenset(report.executing)
        return {ts: None for ts in tasks if ts.run_id in executing}
    threads = [ts for ts in tasks if ts not in ws.long_running and not ts.n_waiting][: ws.nthreads]
    return dict.fromkeys([*threads, *ws.long_running])


def _culprits(begun: dict[TaskState, None], report: WorkerProcessExited | None) -> dict[TaskState, None]:
    """Those to blame: all that were being executed, unless it is known whose thread has ended the process."""
    if report is None or report.culprits is None:
        return begun
    return {ts: None for ts in begun if ts.run_id in report.culprits}


def _death(ws: WorkerState, cause: str, report: WorkerProcessExited | None) -> DeathRecord:
    if report is None:
        return DeathRecord(ws.address, ws.host, cause, ws.pid)
    return DeathRecord(
        ws.address,
        ws.host,
        cause,
        report.pid,
        report.exit_code,
        report.signal,
        report.peak_bytes,
        tuple(report.log_tail),
    )


def killed_error(state: Tables, ts: TaskState) -> ErrorInfo:
    """What a client gets for a task whose workers kept dying; it makes a ``KilledWorker`` of it."""
    deaths = ts.rare.deaths if ts.rare is not None else []
    allowed = state.settings.allowed_failures
    lines = [f"  attempt {i}: {death.describe()}" for i, death in enumerate(deaths, 1)]
    summary = f"task {ts.key!r} was given up: {len(deaths)} workers died running it (allowed-failures: {allowed})"
    details = {
        "task": ts.key,
        "last_worker": deaths[-1].worker if deaths else "",
        "allowed_failures": allowed,
        "attempts": [{name: getattr(death, name) for name in DeathRecord.__slots__} for death in deaths],
    }
    return ErrorInfo("KilledWorker", "\n".join([summary, *lines]), details=details)
