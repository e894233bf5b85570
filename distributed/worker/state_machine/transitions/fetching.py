"""Inputs from peers: wanting a key, asking for it, failing over, giving up. Pure.

No key is left behind silently: one in *fetch* is in the plan, one in *flight* has an answer coming, and one in
*missing* has a deadline at which the scheduler is asked again.
"""

from __future__ import annotations

from collections.abc import Collection

from distributed.messages.payload import ErrorInfo
from distributed.messages.scheduler_to_worker import Priority
from distributed.messages.worker_to_scheduler import MissingData, TaskErred, WhoHas
from distributed.worker.state_machine.events import GatherDepFailure, GatherDepSuccess
from distributed.worker.state_machine.fetch_plan import Flight
from distributed.worker.state_machine.instructions import GatherDep, StoreFetched
from distributed.worker.state_machine.tables import PAUSED, Tables
from distributed.worker.state_machine.task import (
    CANCELLED,
    ERROR,
    FETCH,
    FLIGHT,
    FORGOTTEN,
    IN_FLIGHT,
    MEMORY,
    MISSING,
    NOT_STARTED,
    RELEASED,
    RESUMED,
    TO_COMPUTE,
    TO_FETCH,
    WAITING,
    FetchState,
    TaskState,
)
from distributed.worker.state_machine.transitions.queueing import enter_memory, leave_queue
from distributed.worker.state_machine.transitions.spilling import is_full


def want(
    t: Tables, ts: TaskState, holders: Collection[str], nbytes: int, priority: Priority, *, acquired: bool = False
) -> None:
    """Somebody wants this key, which is not here: a task, or (``acquired``) the scheduler itself."""
    state = ts.state
    if state in TO_COMPUTE or state is MEMORY:
        return  # it comes anyway
    if nbytes >= 0:
        ts.nbytes = nbytes
    fetch = ts.fetch
    if state in TO_FETCH and fetch is not None:
        ts.priority = min(ts.priority, priority)
    else:
        ts.priority = priority
        if fetch is None or fetch.peer is None:
            fetch = ts.fetch = FetchState()
        fetch.holders.clear()
    if acquired:
        fetch.acquired = True
    known = len(fetch.holders)
    _add_holders(t, ts, fetch, holders)
    if state is CANCELLED and fetch.peer is not None:
        t.move(ts, RESUMED)
    elif state in IN_FLIGHT:
        pass
    elif fetch.holders:
        if state is not FETCH or len(fetch.holders) > known:
            _plan(t, ts, fetch)
    elif state is not MISSING:
        go_missing(t, ts, fetch)


def replace_holders(t: Tables, ts: TaskState, holders: Collection[str], nbytes: int) -> None:
    """The scheduler says who holds this key now."""
    fetch = ts.fetch
    if fetch is None or ts.state not in TO_FETCH:
        return
    if nbytes >= 0:
        ts.nbytes = nbytes
    fetch.holders.clear()
    fetch.failed.clear()
    _add_holders(t, ts, fetch, holders)
    if fetch.holders:
        fetch.attempts = 0  # should these fail too, they are struck off, and it is worth while to ask at once
    if ts.state not in IN_FLIGHT:
        if fetch.holders:
            _plan(t, ts, fetch)
        elif ts.state is FETCH:
            go_missing(t, ts, fetch)


def unwant(t: Tables, ts: TaskState) -> None:
    """Forget a key that is only to be fetched and that nobody wants any more."""
    if ts.dependents or (ts.fetch is not None and ts.fetch.acquired):
        return
    if ts.state in TO_FETCH or ts.state is RELEASED:
        settle(t, ts)


def settle(t: Tables, ts: TaskState) -> None:
    """Nothing is wanted of this key: forget it, once what is under way for it has ended."""
    t.missing.pop(ts, None)
    if ts.stale_runs or (ts.fetch is not None and ts.fetch.peer is not None):
        if ts.fetch is not None:
            ts.fetch.acquired = False
        ts.spec = None
        t.move(ts, CANCELLED)
    elif ts.dependents:
        ts.spec = ts.fetch = None
        t.move(ts, RELEASED)
    else:
        t.move(ts, FORGOTTEN)
        del t.tasks[ts.key]


def unlink(t: Tables, ts: TaskState) -> None:
    """A task has ended here: its inputs are needed by one task less."""
    dependencies = ts.dependencies
    if dependencies:
        ts.dependencies = ()
        for dep in dependencies:
            dep.dependents.pop(ts, None)
            if not dep.dependents and dep.state is not MEMORY:
                unwant(t, dep)


def fail(t: Tables, ts: TaskState, report: TaskErred) -> None:
    """A task that was to be computed here has failed. Once told, nothing of it is kept: the scheduler holds the error,
    and orders a new run if there is to be one."""
    t.move(ts, ERROR)
    t.outbox.messages.append(report)
    end(t, ts)


def end(t: Tables, ts: TaskState, *, ask: bool = False) -> None:
    """Let go of a key and its inputs; if a task that has not started here needs it, it is looked for elsewhere."""
    ts.spec = None
    if ts.dependencies:
        unlink(t, ts)
    if awaited(ts):
        look_later(t, ts, ask=ask)
    else:
        settle(t, ts)


def awaited(ts: TaskState) -> bool:
    """Whether a task that has not started here needs this key."""
    return any(dependent.state in NOT_STARTED for dependent in ts.dependents)


def look_later(t: Tables, ts: TaskState, *, ask: bool = False) -> None:
    """A key that tasks here wait for is not to be had from here any more: ask the scheduler, after a while, since
    usually its order to free those tasks too is on its way, or at once with ``ask``."""
    if ts.fetch is None:
        ts.fetch = FetchState()
        ts.priority = min(dependent.priority for dependent in ts.dependents)
    go_missing(t, ts, ts.fetch, ask=ask)


def go_missing(t: Tables, ts: TaskState, fetch: FetchState, *, ask: bool = True) -> None:
    """Nobody is left to ask for this key: tell the scheduler who failed, and ask it, at once only the first time."""
    _tell_failed(t, ts, fetch)
    fetch.holders.clear()
    fetch.peer = None
    if not ts.dependents and fetch.acquired:
        # A copy that only the scheduler wanted: it hears that there is none, and decides again.
        t.outbox.replica_dropped(ts.key)
        settle(t, ts)
        return
    t.move(ts, MISSING)
    t.missing[ts] = None
    if ask and not fetch.attempts:
        t.asking[ts] = None
    _retry_later(t, fetch)


def ask_again(t: Tables) -> None:
    """The deadline has come: ask the scheduler once more for what is missing."""
    for ts in t.missing:
        fetch = ts.fetch
        if fetch is not None:
            if fetch.retry_at <= t.now:
                t.asking[ts] = None
                _retry_later(t, fetch)
            else:
                t.wake_by(fetch.retry_at)


def plan_fetches(t: Tables) -> None:
    """Ask as many peers as may be asked now. Runs once per batch of events."""
    plan = t.fetches
    if plan.fresh or plan.idle:
        settings = t.settings
        limit = settings.paused_gathers if t.status == PAUSED or is_full(t) else settings.max_gathers
        while len(plan.flights) < limit and (plan.flying_nbytes < settings.transfer_nbytes or not plan.flights):
            request = plan.next_request()
            if request is None:
                break
            _gather(t, *request)
    if t.asking:
        keys = [ts.key for ts in t.asking if ts.state is MISSING]
        t.asking.clear()
        if keys:
            t.outbox.messages.append(WhoHas(keys))


def on_gather_success(t: Tables, event: GatherDepSuccess) -> None:
    """A peer has answered: keep what is wanted, look elsewhere for what it did not have."""
    worker = event.worker
    flight = _land(t, worker)
    if flight is None:
        return
    t.fetches.suspects.pop(worker, None)
    stored = []
    for key in flight.keys:
        ts = t.tasks.get(key)
        if ts is None:
            continue
        if key in event.nbytes:
            if ts.state in TO_FETCH:
                t.missing.pop(ts, None)
                stored.append(key)
                enter_memory(t, ts, event.nbytes[key])
                t.outbox.replica_added(key, ts.nbytes)
            else:
                _flight_over(t, ts, worker)
        elif key in event.unreadable:
            if ts.state in TO_FETCH:
                _fail_dependents(t, ts, event.unreadable[key])
            else:
                _flight_over(t, ts, worker)
        else:
            _not_there(t, ts, worker)
    if stored:
        t.outbox.instructions.append(StoreFetched(worker, stored))


def on_gather_failure(t: Tables, event: GatherDepFailure) -> None:
    """A peer has not answered: leave it alone for a while, and look elsewhere. When it has failed twice in a row, the
    keys that wait for it alone do not wait for their turn to fail."""
    worker = event.worker
    flight = _land(t, worker)
    if flight is None:
        return
    settings = t.settings
    again = worker in t.fetches.suspects
    t.wake_by(t.fetches.suspect(worker, event.error, t.now, settings.suspect_s, settings.suspect_max_s))
    for key in flight.keys:
        ts = t.tasks.get(key)
        if ts is None:
            continue
        if key in event.missing:
            _not_there(t, ts, worker)
        elif ts.state in IN_FLIGHT and ts.fetch is not None and ts.fetch.peer == worker:
            ts.fetch.failed[worker] = event.error or "not reached"
            _next_holder(t, ts, ts.fetch, worker)
        else:
            _flight_over(t, ts, worker)
    if again:
        for ts in t.fetches.waiting_for(worker):
            if ts.fetch is not None and len(ts.fetch.holders) == 1:
                ts.fetch.failed[worker] = event.error or "not reached"
                _next_holder(t, ts, ts.fetch, worker)


def _gather(t: Tables, holder: str, first: TaskState) -> None:
    batch, total = t.fetches.batch(holder, first)
    keys = []
    for ts in batch:
        keys.append(ts.key)
        t.move(ts, FLIGHT)
        if ts.fetch is not None:
            ts.fetch.peer = holder
            ts.fetch.since = t.now
    t.fetches.flights[holder] = Flight(keys, t.now, total)
    t.fetches.flying_nbytes += total
    t.outbox.instructions.append(GatherDep(holder, keys, total))


def _land(t: Tables, worker: str) -> Flight | None:
    flight = t.fetches.flights.pop(worker, None)
    if flight is not None:
        t.fetches.flying_nbytes -= flight.nbytes
        t.fetches.idle[worker] = None
    return flight


def _flight_over(t: Tables, ts: TaskState, worker: str) -> None:
    """The answer to a request that was given up meanwhile."""
    if ts.fetch is not None and ts.fetch.peer == worker:
        ts.fetch.peer = None
    if ts.state is CANCELLED:
        settle(t, ts)


def _not_there(t: Tables, ts: TaskState, worker: str) -> None:
    """The peer says that it does not hold this key: the scheduler's view is wrong, so it hears of it at once."""
    fetch = ts.fetch
    if fetch is not None and ts.state in IN_FLIGHT and fetch.peer == worker:
        t.outbox.messages.append(MissingData(ts.key, worker, "not there"))
        _next_holder(t, ts, fetch, worker)
    else:
        _flight_over(t, ts, worker)


def _next_holder(t: Tables, ts: TaskState, fetch: FetchState, failed: str) -> None:
    fetch.holders.pop(failed, None)
    fetch.peer = None
    if fetch.holders:
        _plan(t, ts, fetch)
    else:
        go_missing(t, ts, fetch)


def _plan(t: Tables, ts: TaskState, fetch: FetchState) -> None:
    t.missing.pop(ts, None)
    t.move(ts, FETCH)
    t.fetches.add(ts, fetch)


def _add_holders(t: Tables, ts: TaskState, fetch: FetchState, holders: Collection[str]) -> None:
    for holder in holders:
        if holder == t.address:
            t.outbox.messages.append(MissingData(ts.key, holder, "not here"))
        else:
            fetch.holders[holder] = None


def _tell_failed(t: Tables, ts: TaskState, fetch: FetchState) -> None:
    for holder, reason in fetch.failed.items():
        t.outbox.messages.append(MissingData(ts.key, holder, reason, True))
    fetch.failed.clear()


def _retry_later(t: Tables, fetch: FetchState) -> None:
    settings = t.settings
    pause_s = min(settings.missing_retry_s * 2.0 ** min(fetch.attempts, 30), settings.missing_retry_max_s)
    fetch.attempts += 1
    fetch.retry_at = t.now + pause_s
    t.wake_by(fetch.retry_at)


def _fail_dependents(t: Tables, ts: TaskState, error: ErrorInfo) -> None:
    """The value can be had from nobody, so the tasks that wait for it fail with the reason."""
    if ts.fetch is not None:
        ts.fetch.peer = None
        if ts.fetch.acquired:
            ts.fetch.acquired = False
            t.outbox.replica_dropped(ts.key)
    for dependent in list(ts.dependents):
        if dependent.state is WAITING:
            leave_queue(t, dependent, RELEASED)
            fail(t, dependent, TaskErred(dependent.key, dependent.run_id, error, retriable=False))
    if ts.state is not FORGOTTEN and not awaited(ts):
        settle(t, ts)
