"""Runs that must end: a client has cancelled them, or their time is over. Pure.

The scheduler is told at once, and the key is free for what is wanted now; the run itself becomes stale and keeps its
slot until it has ended. It is told to end, and interrupted when it has not done so after a grace.
"""

from __future__ import annotations

from distributed.base.errors import TaskTimeoutError, error_names
from distributed.messages.payload import ErrorInfo
from distributed.messages.scheduler_to_worker import StopRuns
from distributed.messages.worker_to_scheduler import TaskErred
from distributed.worker.state_machine.instructions import StopExecute
from distributed.worker.state_machine.tables import Tables
from distributed.worker.state_machine.task import TO_COMPUTE, TaskState
from distributed.worker.state_machine.transitions.computing import free
from distributed.worker.state_machine.transitions.executing import give_up_run
from distributed.worker.state_machine.transitions.fetching import fail

_TIMEOUT_NAMES = error_names(TaskTimeoutError)


def on_stop_runs(t: Tables, event: StopRuns) -> None:
    """Cancelled by a client: what has begun is to end, too."""
    for key, run_id in event.runs:
        ts = t.tasks.get(key)
        if ts is not None and ts.run_id == run_id and ts.state in TO_COMPUTE:
            free(t, ts)
        stop(t, run_id, event.reason)


def stop(t: Tables, run_id: int, reason: str) -> None:
    """Have a stale run end; nothing when it has."""
    stale = t.stale.get(run_id)
    if stale is None or run_id in t.stops:
        return
    t.outbox.instructions.append(StopExecute(run_id, stale.task.key, reason))
    grace_s = t.settings.stop_grace_s
    if grace_s is not None:
        t.stops[run_id] = t.now + grace_s
        t.wake_by(t.stops[run_id])


def look(t: Tables) -> None:
    """End what is over its limit, interrupt what has been told to end and does not."""
    for run_id, when in list(t.limits.items()):
        if when > t.now:
            t.wake_by(when)
        else:
            _expire(t, t.handed[run_id])
    for run_id, when in list(t.stops.items()):
        if when <= t.now:
            t.outbox.instructions.append(StopExecute(run_id, t.stale[run_id].task.key, interrupt=True))
            t.stops[run_id] = t.now + t.settings.stop_repeat_s
        t.wake_by(t.stops[run_id])


def _expire(t: Tables, ts: TaskState) -> None:
    rules = ts.spec.rules if ts.spec is not None else None
    assert rules is not None and rules.timeout_s is not None
    run_id, limit_s = ts.run_id, rules.timeout_s
    details = {"task": ts.key, "limit_s": limit_s, "worker": t.address}
    error = ErrorInfo(TaskTimeoutError.__name__, f"{limit_s:g} s are over on worker {t.address}", details=details)
    retriable = not rules.retry_on or any(name in _TIMEOUT_NAMES for name in rules.retry_on)
    report = TaskErred(ts.key, run_id, error, t.now - ts.since, retriable=retriable)
    give_up_run(t, ts)
    stop(t, run_id, f"its limit of {limit_s:g} s is over")
    fail(t, ts, report)
