"""What must be true between two events. Slow; for tests, the simulator and debugging. Pure."""

from __future__ import annotations

from typing import Any

from distributed.worker.state_machine.tables import Tables
from distributed.worker.state_machine.task import (
    ALL_STATES,
    CANCELLED,
    CONSTRAINED,
    EXECUTING,
    FETCH,
    FORGOTTEN,
    HANDED_OVER,
    IN_FLIGHT,
    LONG_RUNNING,
    MEMORY,
    MISSING,
    NOT_STARTED,
    READY,
    RELEASED,
    TO_COMPUTE,
    WAITING,
    TaskState,
)


class InvalidState(AssertionError):
    """The tables of a worker contradict each other: a bug of the state machine, never of its user."""


def validate(t: Tables) -> None:
    """Check every table against the others; raises ``InvalidState`` that names the key and the rule."""
    for key, ts in t.tasks.items():
        _check(ts.key == key, ts, "is filed under its key")
        _validate_task(t, ts)
    _validate_queues(t)
    _validate_slots(t)
    _validate_followers(t)
    _validate_fetches(t)
    _validate_spilling(t)


def _check(truth: bool, what: Any, rule: str) -> None:
    if not truth:
        raise InvalidState(f"{what!r} violates: {rule}")


def _validate_task(t: Tables, ts: TaskState) -> None:
    state = ts.state
    _check(state in ALL_STATES and state != FORGOTTEN, ts, "a key in the table has a state other than forgotten")
    for dep in ts.dependencies:
        _check(ts in dep.dependents, ts, f"its input {dep} knows it")
        _check(t.tasks.get(dep.key) is dep, ts, f"its input {dep} is in the table")
    for dependent in ts.dependents:
        _check(ts in dependent.dependencies, ts, f"its dependent {dependent} knows it")
        _check(dependent.state in TO_COMPUTE, ts, f"its dependent {dependent} is to be computed here")
    _check(not ts.dependencies or state in TO_COMPUTE, ts, "only a task to be computed has inputs")
    _check((ts.spec is not None) == (state in TO_COMPUTE), ts, "it has a spec as long as it is to be computed")
    missing = sum(dep.state != MEMORY for dep in ts.dependencies)
    if state == WAITING:
        _check(ts.waiting_count == missing > 0, ts, f"waiting_count {ts.waiting_count} is {missing} inputs not here")
        for dep in ts.dependencies:
            _check(dep.state not in (RELEASED, CANCELLED, "error"), ts, f"something is done about its input {dep}")
    if state in (READY, CONSTRAINED):
        _check(not missing, ts, "a task in a queue has its inputs here")
    if state in HANDED_OVER:
        _check(t.handed.get(ts.run_id) is ts, ts, "its run is with the executor")
    if state == MEMORY:
        _check(ts.nbytes >= 0, ts, "the size of a value here is known")
    if state == RELEASED:
        _check(bool(ts.dependents), ts, "a released key stays only for running dependents")
        _check(not any(d.state in NOT_STARTED for d in ts.dependents), ts, "a released key is awaited by nobody")
    if state == CANCELLED:
        under_way = ts.stale_runs > 0 or (ts.fetch is not None and ts.fetch.peer is not None)
        _check(under_way, ts, "something under way is awaited")
    _check(ts.stale_runs == sum(run.task is ts for run in t.stale.values()), ts, "its stale runs are counted")
    _check((state == MISSING) == (ts in t.missing), ts, "missing keys are listed, and no others")


def _validate_queues(t: Tables) -> None:
    tasks = t.tasks.values()
    _check(t.ready.count == len(t.ready.live()), t.ready.count, "the ready queue counts its entries")
    ready = {id(ts) for ts in tasks if ts.state == READY}
    _check({id(entry[2]) for entry in t.ready.live()} == ready, ready, "what is ready is in the queue")
    queued = set()
    for queue in t.resources.queues.values():
        _check(0 < queue.count == len(queue.live()), queue.count, "a queue of resources counts its entries")
        queued |= {id(entry[2]) for entry in queue.live()}
    constrained = {id(ts) for ts in tasks if ts.state == CONSTRAINED}
    _check(queued == constrained, constrained, "what is constrained is in a queue")
    _check(t.nmemory == sum(ts.state == MEMORY for ts in tasks), t.nmemory, "values here are counted")
    nbytes = sum(ts.nbytes for ts in tasks if ts.state == MEMORY)
    _check(t.managed_nbytes == nbytes, t.managed_nbytes, f"managed bytes are the sum of the sizes ({nbytes})")


def _validate_slots(t: Tables) -> None:
    held: dict[str, float] = {}
    slots, cost_s, coming = 0, 0.0, 0
    behind = t.followers.follows
    for run_id, ts in t.handed.items():
        _check(ts.state in HANDED_OVER and ts.run_id == run_id, ts, f"run {run_id} is its newest and with the executor")
        _check(t.tasks.get(ts.key) is ts, ts, "a task with the executor is in the table")
        if ts.state != LONG_RUNNING:
            slots, cost_s, coming = slots + (run_id not in behind), cost_s + ts.cost_s, coming + ts.size
        for name, amount in ((ts.spec.resources if ts.spec else None) or {}).items():
            held[name] = held.get(name, 0.0) + amount
    for run_id, run in t.stale.items():
        _check(run_id not in t.handed, run.task, f"run {run_id} is wanted or stale, not both")
        if run.holds_slot:
            slots, cost_s, coming = slots + (run_id not in behind), cost_s + run.cost_s, coming + run.size
        for name, amount in (run.resources or {}).items():
            held[name] = held.get(name, 0.0) + amount
    _check(t.limits.keys() <= t.handed.keys(), list(t.limits), "wanted runs have limits")
    _check(t.stops.keys() <= t.stale.keys(), list(t.stops), "unwanted runs are stopped")
    for when in (*t.limits.values(), *t.stops.values()):
        _check(t.wake_at is not None and t.wake_at <= when, when, "a deadline ends runs")
    _check(slots == t.slots_used, t.slots_used, f"slots in use are the runs that hold one ({slots})")
    _check(abs(cost_s - t.backlog_s) < 1e-6, t.backlog_s, f"the backlog is the sum of what is booked ({cost_s})")
    _check(coming == t.coming_nbytes, t.coming_nbytes, f"the bytes to come are those of the runs ({coming})")
    for name, total in t.resources.total.items():
        free = t.resources.available[name]
        _check(abs(total - free - held.get(name, 0.0)) < 1e-6, name, f"{free} of {total} free, {held.get(name)} held")


def _validate_followers(t: Tables) -> None:
    followers = t.followers
    for run_id, before in followers.follows.items():
        _check(run_id in t.handed or run_id in t.stale, run_id, "what is behind another run is with the executor")
        _check(before in t.handed or before in t.stale, run_id, f"run {before}, which it is behind, is there too")
        ts = t.handed.get(run_id)
        if ts is not None and run_id not in followers.void:
            lead = t.handed.get(before)
            _check(lead in ts.dependencies, ts, f"run {before}, which it is behind, is a wanted one of its input")
            _check(lead is not None and lead.state == EXECUTING, ts, f"run {before}, which it is behind, has its slot")
            _check(before not in followers.void, ts, f"run {before}, which it is behind, counts")
    pairs = [(run_id, before) for before, runs in followers.behind.items() for run_id in runs]
    _check(dict(pairs) == followers.follows and len(pairs) == len(followers.follows), pairs, "both directions agree")
    _check(followers.void <= t.handed.keys(), followers.void, "only wanted runs are void")
    for lead in followers.leads:
        counts = t.handed.get(lead.run_id) is lead and lead.run_id not in followers.void
        _check(counts and lead.state == EXECUTING, lead, "what may be lined up behind has a run that counts")


def _validate_fetches(t: Tables) -> None:
    plan = t.fetches
    fresh = {id(entry[2]) for entry in plan.fresh}
    for ts in t.tasks.values():
        fetch = ts.fetch
        if ts.state in IN_FLIGHT:
            peer = fetch.peer if fetch is not None else None
            _check(peer in plan.flights and ts.key in plan.flights[peer].keys, ts, f"it was asked from {peer}")
        if ts.state == FETCH:
            _check(fetch is not None and bool(fetch.holders) and fetch.peer is None, ts, "it has a holder to be asked")
            assert fetch is not None
            _check(
                id(ts) in fresh or any(_comes_back(t, ts, holder) for holder in fetch.holders),
                ts,
                "it will be looked at again",
            )
        if ts.state == MISSING:
            _check(fetch is not None and not fetch.holders, ts, "nobody is known to hold it")
            due = t.wake_at is not None and fetch is not None and t.wake_at <= fetch.retry_at
            _check(due, ts, "a deadline asks the scheduler again")
        if ts.state in (FETCH, MISSING, *IN_FLIGHT):
            _check(bool(ts.dependents) or (fetch is not None and fetch.acquired), ts, "somebody wants it")
    for holder, suspect in plan.suspects.items():
        due = suspect.until == 0 or (t.wake_at is not None and t.wake_at <= suspect.until)
        _check(due, holder, "a suspect is tried again")
    limit = t.settings.max_gathers
    _check(len(plan.flights) <= limit, len(plan.flights), f"at most {limit} fetches at once")


def _comes_back(t: Tables, ts: TaskState, holder: str) -> bool:
    plan = t.fetches
    waiting = any(entry[2] is ts for entry in plan.by_holder.get(holder, ()))
    return waiting and (holder in plan.idle or holder in plan.flights or plan.suspicion(holder) is not None)


def _validate_spilling(t: Tables) -> None:
    plan = t.spilling
    least = t.settings.min_spill_nbytes
    for ts in t.tasks.values():
        places = (ts in plan.resident) + (ts in plan.leaving) + (ts in plan.absent)
        _check(places <= 1, ts, "a value is resident, leaving or absent")
        _check(not places or (ts.state == MEMORY and ts.nbytes >= least), ts, "only large values here go to disk")
        _check(ts not in plan.absent or ts in plan.files, ts, "an absent value has a file")
        _check(ts not in plan.leaving or ts not in plan.files, ts, "a value that is being written has no file")
    for table in (plan.resident, plan.leaving, plan.absent, plan.files):
        _check(all(t.tasks.get(ts.key) is ts for ts in table), list(table), "what may be on disk is known")
    found = (sum(plan.files.values()), *[sum(ts.nbytes for ts in table) for table in (plan.leaving, plan.absent)])
    counted = (plan.disk_nbytes, plan.leaving_nbytes, plan.absent_nbytes)
    _check(found == counted, counted, f"bytes on disk, leaving and absent are {found}")
    flying = sum(flight.nbytes for flight in t.fetches.flights.values())
    _check(flying == t.fetches.flying_nbytes, t.fetches.flying_nbytes, f"the bytes of fetches are {flying}")
