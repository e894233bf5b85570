"""What happens because time passes: exit reports, silent workers, tasks without worker, retirements, stealing. Pure."""

from __future__ import annotations

from typing import Any

from distributed.messages.payload import ErrorInfo
from distributed.scheduler.state_machine.fleet import remove
from distributed.scheduler.state_machine.liveness import liveness_deadline, look
from distributed.scheduler.state_machine.placement import no_worker_reason
from distributed.scheduler.state_machine.retirement import retirement_deadline
from distributed.scheduler.state_machine.stealing import steal_deadline
from distributed.scheduler.state_machine.tables import Tables
from distributed.scheduler.state_machine.transitions.fail import fail


def next_deadline(state: Tables) -> float | None:
    """The earliest of all."""
    candidates = [steal_deadline(state), _no_worker_deadline(state), liveness_deadline(state)]
    if state.vanished:
        candidates.extend([vanished.deadline for vanished in state.vanished.values()])
    if state.retirements:
        candidates.append(retirement_deadline(state))
    return min([deadline for deadline in candidates if deadline is not None], default=None)


def handle_deadlines(state: Tables) -> None:
    """Do what is due. Stealing is part of the placing beat that follows."""
    now = state.now
    for ws, vanished in list(state.vanished.items()):
        if vanished.deadline <= now:
            remove(state, ws, vanished.cause, blame=True)
    due = _no_worker_deadline(state)
    if due is not None and due <= now:
        _fail_unrunnable(state)
    look(state)
    if state.retirements:
        state.retire_again = True


def _no_worker_deadline(state: Tables) -> float | None:
    timeout = state.settings.no_workers_timeout_s
    if timeout is None:
        return None
    since = next(iter(state.unrunnable.values()), None)
    if len(state.queued) and state.no_workers_since is not None and not state.running:
        since = state.no_workers_since if since is None else min(since, state.no_workers_since)
    return None if since is None else since + timeout


def _fail_unrunnable(state: Tables) -> None:
    timeout = state.settings.no_workers_timeout_s
    assert timeout is not None
    due = [ts for ts, since in state.unrunnable.items() if since + timeout <= state.now]
    if not state.running and state.no_workers_since is not None and state.no_workers_since + timeout <= state.now:
        due.extend(state.queued)
    for ts in due:
        if ts.state in ("no-worker", "queued"):
            reason = "; ".join(no_worker_reason(state, ts))
            text = f"no worker could take {ts.key!r} within {timeout:g} s: {reason}"
            details: dict[str, Any] = {"task": ts.key, "timeout": timeout}
            if not state.running:
                fail(state, ts, ErrorInfo("NoWorkerError", text, details=details))
                continue
            details["host_restrictions"] = sorted(ts.host_restrictions or ())
            details["worker_restrictions"] = sorted(ts.worker_restrictions or ())
            details["resource_restrictions"] = dict(ts.resource_restrictions or {})
            fail(state, ts, ErrorInfo("NoValidWorkerError", text, details=details))
