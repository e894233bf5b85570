"""Reports of workers on tasks and on themselves. Pure.

A report about another run than the task's current one changes nothing (rule of the run id); if the worker then holds a
value that nobody expects there, it is told to forget it.
"""

from __future__ import annotations

from distributed.base.keys import Key
from distributed.messages.worker_to_scheduler import (
    Heartbeat,
    TaskErred,
    TaskFinished,
    TaskLongRunning,
    TaskRescheduled,
    WorkerClosing,
    WorkerStatus,
)
from distributed.scheduler.state_machine.delays import run_later
from distributed.scheduler.state_machine.entities import TaskState, WorkerState
from distributed.scheduler.state_machine.fleet import remove, set_status
from distributed.scheduler.state_machine.liveness import answered
from distributed.scheduler.state_machine.tables import Tables
from distributed.scheduler.state_machine.transitions.announced import free_copy
from distributed.scheduler.state_machine.transitions.assign import requeue
from distributed.scheduler.state_machine.transitions.fail import fail
from distributed.scheduler.state_machine.transitions.finish import finish

HEARD_S = 2.0
"""By then a worker has heard what it was told."""


def on_task_finished(state: Tables, event: TaskFinished, source: str) -> None:
    ws = state.workers.get(source)
    if ws is None or not ws.alive:
        return
    ts = state.tasks.get(event.key)
    if ts is None or ts.run_id != event.run_id or ts.processing_on is not ws:
        state.n_ignored += 1
        _forget_stale(state, ts, ws, event.key)
    else:
        finish(state, ts, ws, event)


def _forget_stale(state: Tables, ts: TaskState | None, ws: WorkerState, key: Key) -> None:
    """The worker has been told already that it is not to keep this. Once more does no harm, unless the task is in
    memory: then it may have fetched a copy since."""
    if ts is None or (ts.processing_on is not ws and ts.state != "memory"):
        free_copy(state, ws.address, key)


def _current(state: Tables, key: Key, run_id: int, source: str) -> TaskState | None:
    """The task, if this is the run that the scheduler waits for."""
    ts = state.tasks.get(key)
    ws = state.workers.get(source)
    if ts is None or ws is None or ts.run_id != run_id or ts.processing_on is not ws:
        state.n_ignored += 1
        return None
    return ts


def on_task_erred(state: Tables, event: TaskErred, source: str) -> None:
    """It raised: run it again while the user's retries last."""
    ts = _current(state, event.key, event.run_id, source)
    if ts is None:
        return
    if event.retriable and ts.retries > 0:
        rare = ts.make_rare()
        rare.retries_used += 1
        backoff = ts.policy.backoff
        if backoff is None or ts.n_waiting:
            requeue(state, ts, free=False)
        else:
            run_later(state, ts, backoff.delay_s(rare.retries_used))
    else:
        fail(state, ts, event.error, free=False)


def on_task_rescheduled(state: Tables, event: TaskRescheduled, source: str) -> None:
    ts = _current(state, event.key, event.run_id, source)
    if ts is not None:
        ts.make_rare().avoid = ts.processing_on
        requeue(state, ts, free=False)


def on_task_long_running(state: Tables, event: TaskLongRunning, source: str) -> None:
    """The task has seceded: it no longer counts as load."""
    ts = _current(state, event.key, event.run_id, source)
    if ts is None:
        return
    ws = state.workers[source]
    if ts in ws.long_running:
        return
    settings = state.settings
    ts.prefix.add_duration(event.duration_s, settings.duration_weight, settings.min_duration_s)
    ws.occupancy = max(0.0, ws.occupancy - ws.processing[ts])
    ws.processing[ts] = 0.0
    ws.long_running[ts] = None
    state.steals.pop(ts, None)
    state.touched[ws] = None


def on_worker_status(state: Tables, event: WorkerStatus, source: str) -> None:
    ws = state.workers.get(source)
    if ws is not None and ws.alive and ws not in state.retirements and ws.status_name != event.status:
        set_status(state, ws, event.status)


def _count_held_slots(state: Tables, ws: WorkerState, n: int) -> None:
    """A beat that was made before the worker heard that runs are given up does not count them."""
    if n > ws.held_slots or state.now - ws.held_since >= HEARD_S:
        ws.held_slots = n
        state.touched[ws] = None


def on_heartbeat(state: Tables, event: Heartbeat, source: str) -> None:
    """Sign of life; tasks that run longer than expected are charged for it."""
    ws = state.workers.get(source)
    if ws is None:
        return
    if ws.suspect_since is not None or ws.vouch is not None:
        answered(state, ws)
    ws.last_seen = state.now
    ws.metrics = event.metrics
    ws.managed_bytes = event.managed_bytes
    ws.process_bytes = event.process_bytes
    ws.spilled_bytes = event.spilled_bytes
    if ws.held_slots != event.held_slots:
        _count_held_slots(state, ws, event.held_slots)
    executing: dict[TaskState, float] = {}
    for key, seconds in event.executing:
        ts = state.tasks.get(key)
        if ts is None or ts.processing_on is not ws:
            continue
        executing[ts] = seconds
        prefix = ts.group.prefix
        if seconds > prefix.max_exec_time:
            prefix.max_exec_time = seconds
        if ts in ws.long_running:
            continue
        late = seconds - ws.processing[ts]
        if late > 0:
            ws.processing[ts] = seconds
            ws.occupancy += late
            state.touched[ws] = None
    ws.executing = executing


def on_worker_closing(state: Tables, event: WorkerClosing, source: str) -> None:
    ws = state.workers.get(source)
    if ws is not None:
        remove(state, ws, event.reason or "closed", blame=False, expected=True)
