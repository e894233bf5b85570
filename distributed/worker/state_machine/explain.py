"""Why a key is where it is: one sentence, and the same as data. Pure; only reads the tables."""

from __future__ import annotations

from msgspec import Struct

from distributed.base.keys import Key
from distributed.worker.state_machine.tables import RUNNING, Tables
from distributed.worker.state_machine.task import (
    CANCELLED,
    CONSTRAINED,
    FETCH,
    FORGOTTEN,
    HANDED_OVER,
    IN_FLIGHT,
    LONG_RUNNING,
    MEMORY,
    MISSING,
    READY,
    WAITING,
    TaskState,
)
from distributed.worker.state_machine.transitions.executing import waits_for_room


class Explanation(Struct, omit_defaults=True):
    """``waiting_on``: inputs not here, each with its state; ``queued_behind``: tasks ahead in the queue;
    ``unsatisfied``: resource to reason; ``fetching_from``, ``since_s``: whom was asked or who runs it, how long ago."""

    state: str
    text: str
    waiting_on: dict[Key, str] = {}
    queued_behind: int = 0
    unsatisfied: dict[str, str] = {}
    fetching_from: str | None = None
    since_s: float | None = None
    run_id: int = -1


def explain(t: Tables, key: Key, now: float) -> Explanation:
    """What ``key`` waits for; never an empty text. ``now`` may be later than the last event."""
    ts = t.tasks.get(key)
    if ts is None:
        return Explanation(FORGOTTEN, "this worker knows nothing of it")
    explanation = _explain(t, ts, now)
    explanation.run_id = ts.run_id
    if ts.stale_runs and ts.state != CANCELLED:
        explanation.text += f"; {ts.stale_runs} older run(s) of it have not ended"
    return explanation


def _explain(t: Tables, ts: TaskState, now: float) -> Explanation:
    state = ts.state
    if state == WAITING:
        return _waiting(t, ts, now)
    if state == READY:
        return _queued(t, ts, t.ready.position(ts), {})
    if state == CONSTRAINED:
        return _queued(t, ts, t.resources.position(ts), t.resources.unsatisfied(ts))
    if state in HANDED_OVER:
        since_s = now - ts.since
        return Explanation(state, f"with the executor{_how(t, ts)} for {since_s:.3g} s", since_s=since_s)
    if state == MEMORY:
        where = "on disk here" if ts in t.spilling.absent else "here"
        return Explanation(state, f"its value is {where} ({ts.nbytes} bytes)")
    if state == CANCELLED:
        return Explanation(state, "nobody wants it; the end of its execution or fetch is awaited")
    if ts.fetch is not None:
        return _fetched(t, ts, state, now)
    return Explanation(state, "known here, nothing is going on")


def _how(t: Tables, ts: TaskState) -> str:
    """A task that is handed over, and not in the ordinary way."""
    if ts.run_id in t.followers.void:
        return ", taken back since the run of its input does not count or has seceded,"
    before = t.handed.get(t.followers.follows.get(ts.run_id, -1))
    if before is not None:
        return f", behind the run of its input {before.key!r},"
    return " without a slot" if ts.state == LONG_RUNNING else ""


def _waiting(t: Tables, ts: TaskState, now: float) -> Explanation:
    missing = [dep for dep in ts.dependencies if dep.state != MEMORY]
    more = f", and for {len(missing) - 1} more" if len(missing) > 1 else ""
    # An input may itself be a task that waits here: one level tells enough.
    first = missing[0]
    why = first.state if first.state == WAITING else _explain(t, first, now).text
    return Explanation(
        WAITING,
        f"waits for its input {first.key!r} ({why}){more}",
        waiting_on={dep.key: dep.state for dep in missing},
        fetching_from=first.fetch.peer if first.fetch is not None else None,
    )


def _queued(t: Tables, ts: TaskState, ahead: int, unsatisfied: dict[str, str]) -> Explanation:
    if unsatisfied:
        reasons = ", ".join(f"{name}: {reason}" for name, reason in unsatisfied.items())
        text = f"waits for resources ({reasons})"
    elif t.status != RUNNING:
        text = f"this worker is {t.status} and starts nothing"
    elif waits_for_room(t, ts):
        text = f"memory is full: tasks wait until {len(t.spilling.leaving)} value(s) have been written to disk"
    else:
        text = f"ready behind {ahead} task(s); {t.slots_used} run(s) with the executor on {t.nthreads} slot(s)"
    return Explanation(ts.state, text, queued_behind=ahead, unsatisfied=unsatisfied)


def _fetched(t: Tables, ts: TaskState, state: str, now: float) -> Explanation:
    fetch = ts.fetch
    assert fetch is not None
    if state in IN_FLIGHT:
        since_s = now - fetch.since
        return Explanation(
            state, f"asked from {fetch.peer} {since_s:.3g} s ago", fetching_from=fetch.peer, since_s=since_s
        )
    if state == FETCH:
        reasons = [_why_not_yet(t, holder, now) for holder in fetch.holders]
        return Explanation(state, "to be fetched; " + ", ".join(reasons))
    if state == MISSING:
        wait_s = max(0.0, fetch.retry_at - now)
        return Explanation(state, f"no holder is known; the scheduler is asked (again) in {wait_s:.3g} s")
    return Explanation(state, "known here, nothing is going on")


def _why_not_yet(t: Tables, holder: str, now: float) -> str:
    suspect = t.fetches.suspicion(holder)
    if suspect is not None:
        return f"{holder} could not be reached ({suspect.reason}), tried again in {max(0.0, suspect.until - now):.3g} s"
    if holder in t.fetches.flights:
        return f"{holder} is busy answering for {len(t.fetches.flights[holder].keys)} other key(s)"
    return f"{holder} is next, {len(t.fetches.flights)} fetch(es) under way"
