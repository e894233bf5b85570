"""Tasks without a worker: who is told of them, and when they are given up. Pure.

A wish that no worker here can ever fulfil is told after ``tell_no_worker_s``: one ``TasksUnrunnable`` for each cause,
however many tasks share it, and one message to each client that waits for some of them. Where workers qualify and are
only paused or silent, or where there are no workers yet, it is told after ``PATIENCE`` times as long; so are queued
tasks while no worker runs any. A cause that is gone and comes back is told again.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from distributed.messages.payload import ErrorInfo
from distributed.messages.scheduler_to_client import NoWorkerForTasks
from distributed.scheduler.state_machine.entities import NEEDING, TaskState
from distributed.scheduler.state_machine.instructions import TasksUnrunnable
from distributed.scheduler.state_machine.placement import no_worker_reason
from distributed.scheduler.state_machine.restrictions import allowed_workers
from distributed.scheduler.state_machine.tables import Tables
from distributed.scheduler.state_machine.transitions.fail import fail
from distributed.scheduler.state_machine.unrunnable import Cause, Wish

PATIENCE = 20
# Causes that are told in one beat (others follow in the next look), and tasks looked at to find who waits for one.
_MAX_TOLD = 100
_MAX_VISITED = 1000
_MAX_KEYS = 5


def no_worker_deadline(state: Tables) -> float | None:
    """When to look next."""
    deadlines = (state.unrunnable.due(), _tell_queued_deadline(state), _give_up_deadline(state))
    return min([due for due in deadlines if due is not None], default=None)


def look_at_unrunnable(state: Tables) -> None:
    """Tell what is to be told, fail what has waited too long."""
    due = _give_up_deadline(state)
    if due is not None and due <= state.now:
        _give_up(state)
    due = state.unrunnable.due()
    if due is not None and due <= state.now:
        _tell(state)
    due = _tell_queued_deadline(state)
    if due is not None and due <= state.now:
        _tell_queued(state)


def watch_queue(state: Tables) -> None:
    """Note when queued tasks begin to wait without any running worker, and when that is over."""
    if not state.queued.n or state.running:
        state.no_workers_since = None
    elif state.no_workers_since is None:
        state.no_workers_since = state.now
        state.no_workers_told = False


def _tell_queued_deadline(state: Tables) -> float | None:
    if state.no_workers_since is None or state.no_workers_told:
        return None
    return state.no_workers_since + PATIENCE * state.settings.tell_no_worker_s


def _tell_queued(state: Tables) -> None:
    state.no_workers_told = True
    first = state.queued.peek()
    if first is None or state.no_workers_since is None:
        return
    reason = "; ".join(no_worker_reason(state, first))
    n = state.queued.n
    state.out.instructions.append(TasksUnrunnable(reason, (first.key,), n, state.now - state.no_workers_since))
    for name, cs in state.clients.items():
        if not cs.mute and any(ts.state in NEEDING for ts in islice(cs.wants_what, _MAX_VISITED)):
            state.out.to_clients[name].append(NoWorkerForTasks([first.key], n, reason))


def _tell(state: Tables) -> None:
    table = state.unrunnable
    delay_s = state.settings.tell_no_worker_s
    wishes: list[Wish] = []
    for wish, due in table.pending.items():
        if due > state.now or len(wishes) >= _MAX_TOLD:
            break
        wishes.append(wish)
    for wish in wishes:
        del table.pending[wish]
        cause = table.causes[wish]
        passing = cause.pinned is None and (not state.workers or bool(allowed_workers(state, cause.policy)))
        if not passing or state.now >= cause.since + PATIENCE * delay_s:
            _tell_cause(state, cause, table.look(wish))
        else:
            table.pending[wish] = state.now + delay_s


def _tell_cause(state: Tables, cause: Cause, sample: list[TaskState]) -> None:
    reason = "; ".join(no_worker_reason(state, sample[0]))
    clients = [name for name in _waiting_clients(state, sample) if name not in cause.told]
    if cause.announced and not clients:
        return
    cause.announced = True
    cause.told.update(dict.fromkeys(clients))
    keys = [ts.key for ts in sample[:_MAX_KEYS]]
    state.out.instructions.append(TasksUnrunnable(reason, tuple(keys), len(cause.tasks), state.now - cause.since))
    for name in clients:
        state.out.to_clients[name].append(NoWorkerForTasks(keys, len(cause.tasks), reason))


def _waiting_clients(state: Tables, tasks: list[TaskState]) -> list[str]:
    """Clients that want these tasks, or tasks that need them."""
    found: dict[str, None] = {}
    seen: dict[TaskState, None] = dict.fromkeys(tasks)
    stack = list(tasks)
    while stack:
        ts = stack.pop()
        for cs in ts.who_wants:
            # A submission whose last part is to come is wanted by ``<client>/<number>``.
            name = cs.client_key.rpartition("/")[0] if cs.mute else cs.client_key
            if name in state.clients and not state.clients[name].mute:
                found[name] = None
        for dependent in ts.dependents:
            if dependent not in seen and len(seen) < _MAX_VISITED:
                seen[dependent] = None
                stack.append(dependent)
    return list(found)


def _give_up_deadline(state: Tables) -> float | None:
    timeout = state.settings.no_workers_timeout_s
    if timeout is None:
        return None
    since = next(iter(state.unrunnable.values()), None)
    if state.no_workers_since is not None:
        since = state.no_workers_since if since is None else min(since, state.no_workers_since)
    return None if since is None else since + timeout


def _give_up(state: Tables) -> None:
    timeout = state.settings.no_workers_timeout_s
    assert timeout is not None
    due: list[TaskState] = []
    for ts, since in state.unrunnable.items():
        if since + timeout > state.now:
            break  # those that follow came later
        due.append(ts)
    if state.no_workers_since is not None and state.no_workers_since + timeout <= state.now:
        due.extend(state.queued)
    for ts in due:
        if ts.state in ("no-worker", "queued"):
            fail(state, ts, _too_long(state, ts, timeout))


def _too_long(state: Tables, ts: TaskState, timeout: float) -> ErrorInfo:
    reason = "; ".join(no_worker_reason(state, ts))
    text = f"no worker could take {ts.key!r} within {timeout:g} s: {reason}"
    details: dict[str, Any] = {"task": ts.key, "timeout": timeout}
    if not state.running:
        return ErrorInfo("NoWorkerError", text, details=details)
    details["host_restrictions"] = sorted(ts.host_restrictions or ())
    details["worker_restrictions"] = sorted(ts.worker_restrictions or ())
    details["resource_restrictions"] = dict(ts.resource_restrictions or {})
    return ErrorInfo("NoValidWorkerError", text, details=details)
