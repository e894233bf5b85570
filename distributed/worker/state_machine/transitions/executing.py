"""Between the queues and the executor: handing over, slots, runs that end or are given up. Pure.

Each free slot gets a task. Beyond that, tasks are handed over ahead of time as long as the work that lies with the
executor is expected to take less than ``handover_s`` per slot: short tasks then run back to back without a round trip
through the event loop, while long ones (or ones of unknown length) stay here, where they can still be stolen, freed or
overtaken. A long task books no more than its slot's share, so that it does not keep the other slots short.

What lies with the executor is run to its end, however short memory gets meanwhile, and a loop that is late hears of it
late. So the memory that it will take is booked as well: ahead of time goes only what has room below ``hold_nbytes``,
and while something is on its way to disk a free slot, too, waits for the room.

Within the same limit goes what waits for the result of such a short run and for nothing else: it is handed over behind
that run (``followers.py``). When the run before is not wanted any more, or goes on without its slot, what lies behind
is void: it is taken back, and what it returns, if it has begun, does not count.
"""

from __future__ import annotations

from distributed.base.keys import key_prefix
from distributed.messages.scheduler_to_worker import ComputeTask, Priority
from distributed.messages.worker_to_scheduler import TaskRescheduled
from distributed.worker.state_machine.instructions import CancelExecute, Execute
from distributed.worker.state_machine.tables import NEVER, RUNNING, Tables
from distributed.worker.state_machine.task import (
    CANCELLED,
    EXECUTING,
    LONG_RUNNING,
    NO_PRIORITY,
    RELEASED,
    RESCHEDULED,
    WAITING,
    StaleRun,
    TaskState,
)
from distributed.worker.state_machine.transitions.fetching import end, settle, want
from distributed.worker.state_machine.transitions.queueing import wait_or_queue
from distributed.worker.state_machine.transitions.spilling import brought_back_nbytes, fits, is_full, use

_MOST_DEPENDENTS = 4
"""Of a run behind which tasks are handed over: many of them are better off in the queue, for all slots."""


def start_tasks(t: Tables) -> None:
    """Hand over what may be handed over now. Runs once per batch of events, unless the worker is closing."""
    if t.status != RUNNING or is_full(t):
        return
    if t.ready.count or t.resources.queues:
        _start_queued(t)
    if t.followers.leads:
        _line_up_followers(t)


def _start_queued(t: Tables) -> None:
    ready, resources = t.ready, t.resources
    share_s = t.settings.handover_s
    limit_s = share_s * t.nthreads + 1e-9  # sums of floats
    is_bounded = t.settings.hold_nbytes != NEVER
    while True:
        ts = ready.peek()
        if resources.queues:
            other = resources.best()
            if other is not None and (ts is None or other.priority < ts.priority):
                if t.slots_used >= t.nthreads or waits_for_room(t, other):
                    return
                resources.start(other)
                _hand_over(t, other, share_s, _known_size(t, other))
                continue
        if ts is None or ts.spec is None:
            return
        cost_s = _known_cost_s(t, ts.spec)
        size = _known_size(t, ts) if is_bounded else 0
        if t.slots_used < t.nthreads:
            if waits_for_room(t, ts):
                return
        elif cost_s < 0 or t.backlog_s + cost_s > limit_s or (is_bounded and not _fits_ahead(t, ts, size)):
            return
        ready.pop()
        _hand_over(t, ts, share_s if cost_s < 0 else cost_s, size)


def _line_up_followers(t: Tables) -> None:
    leads = t.followers.leads
    share_s = t.settings.handover_s
    limit_s = share_s * t.nthreads + 1e-9
    urgent = _most_urgent(t)
    while leads:
        lead = next(iter(leads))
        if len(lead.dependents) <= _MOST_DEPENDENTS:
            for ts in list(lead.dependents):
                cost_s = _cost_behind_s(t, ts)
                if cost_s < 0 or cost_s >= share_s or urgent < ts.priority:
                    continue
                size = _known_size(t, ts)
                if t.backlog_s + cost_s > limit_s or not _fits_ahead(t, ts, size):
                    return  # it is looked at again when there is room
                _hand_over(t, ts, cost_s, size, lead.run_id)
        del leads[lead]


def _most_urgent(t: Tables) -> Priority:
    """Of what only lacks a slot: nothing that can wait is lined up before it."""
    ready = t.ready.peek()
    urgent = NO_PRIORITY if ready is None else ready.priority
    if t.resources.queues:
        other = t.resources.best()
        if other is not None and other.priority < urgent:
            return other.priority
    return urgent


def _cost_behind_s(t: Tables, ts: TaskState) -> float:
    """What a task books that waits for one input only; negative when it does not, or must not be behind another run."""
    spec = ts.spec
    if ts.state is not WAITING or ts.waiting_count != 1 or spec is None:
        return -1.0
    if spec.resources or spec.actor or spec.executor is not None:
        return -1.0
    return _known_cost_s(t, spec)


def _known_cost_s(t: Tables, spec: ComputeTask) -> float:
    """What the task books, at least the least and at most the share of a slot; negative when that is not known."""
    if spec.rules is not None:
        return -1.0  # a run with a limit begins when it is handed over, or its time would not be its own
    cost_s = spec.duration_s
    if cost_s < 0 and t.durations:
        cost_s = t.durations.get(_kind(spec), -1.0)
    if cost_s < 0:
        return -1.0
    settings = t.settings
    if cost_s <= settings.min_cost_s:
        return settings.min_cost_s
    return cost_s if cost_s < settings.handover_s else max(settings.handover_s, settings.min_cost_s)


def _known_size(t: Tables, ts: TaskState) -> int:
    """Bytes that the result will take, to judge by others of its kind; negative when none is known, 0 where nothing
    depends on it."""
    spec = ts.spec
    if spec is None or t.settings.hold_nbytes == NEVER:
        return 0
    return t.sizes.get(_kind(spec), -1)


def _fits_ahead(t: Tables, ts: TaskState, size: int) -> bool:
    """Whether memory has room for a run that is begun without another look at it."""
    return size >= 0 and fits(t, size + brought_back_nbytes(t, ts))


def waits_for_room(t: Tables, ts: TaskState) -> bool:
    """Whether a task does not get a free slot: something is on its way to disk, and there is no room for it before."""
    return bool(t.spilling.leaving) and not fits(t, max(_known_size(t, ts), 0) + brought_back_nbytes(t, ts))


def _hand_over(t: Tables, ts: TaskState, cost_s: float, size: int, after: int = -1) -> None:
    spec = ts.spec
    assert spec is not None
    now = t.now
    run_id = spec.run_id
    t.steps.append((now, spec.key, ts.state, EXECUTING, run_id))
    ts.state = EXECUTING
    ts.since = now
    ts.cost_s = cost_s
    t.handed[run_id] = ts
    if after < 0:
        t.slots_used += 1
    else:
        ts.waiting_count = 0
        t.followers.add(run_id, after)
    t.backlog_s += cost_s
    if size > 0:
        ts.size = size
        t.coming_nbytes += size
    t.outbox.instructions.append(
        Execute(
            spec.key,
            run_id,
            spec.function,
            spec.payload,
            [need.key for need in spec.needs] if spec.needs else (),
            spec.wanted,
            spec.executor,
            spec.actor,
            spec.alias,
            spec.annotations,
            spec.priority,
            spec.rules,
            after,
        )
    )
    if ts.dependents:
        may_lead(t, ts)
    if spec.rules is not None and spec.rules.timeout_s is not None:
        t.limits[run_id] = now + spec.rules.timeout_s
        t.wake_by(t.limits[run_id])
    if ts.dependencies and (t.spilling.resident or t.spilling.absent):
        use(t, ts.dependencies)


def may_lead(t: Tables, ts: TaskState) -> None:
    """A task with dependents is with the executor: look, after this batch, what may be handed over behind it."""
    spec = ts.spec
    if (
        ts.state is EXECUTING
        and ts.cost_s < t.settings.handover_s
        and spec is not None
        and not spec.actor
        and spec.executor is None
        and ts.run_id not in t.followers.void
    ):
        t.followers.leads[ts] = None


def end_run(t: Tables, run_id: int, begun: bool = True) -> TaskState | None:
    """The terminal event of a run has come: its slot and resources are free. The task, if the run still counts."""
    ts = t.handed.pop(run_id, None)
    followers = t.followers
    if followers.behind:
        t.slots_used += followers.end(run_id)
    if ts is None:
        _end_stale(t, run_id)
        return None
    if followers.leads:
        followers.leads.pop(ts, None)
    if ts.state is EXECUTING:
        _free_slot(t, ts)
    spec = ts.spec
    if spec is not None and spec.resources:
        t.resources.release(spec.resources)
    if t.limits:
        t.limits.pop(run_id, None)
    if run_id in followers.void:
        followers.void.discard(run_id)
        if begun:  # a run with this number must not begin twice
            leave_to_others(t, ts)
        else:
            requeue(t, ts)
        return None
    t.executed_count += 1
    return ts


def leave_to_others(t: Tables, ts: TaskState) -> None:
    """This worker will not run a task that was ordered here, and holds no run of it any more."""
    t.outbox.messages.append(TaskRescheduled(ts.key, ts.run_id))
    t.move(ts, RESCHEDULED)
    end(t, ts)


def requeue(t: Tables, ts: TaskState) -> None:
    """A wanted run was not begun: the task goes back to where it was before it was handed over."""
    for dep in ts.dependencies:
        if dep.state is RELEASED or dep.state is CANCELLED:
            want(t, dep, (), -1, ts.priority)
    wait_or_queue(t, ts)


def secede(t: Tables, run_id: int) -> TaskState | None:
    """A run goes on without its slot. The task, if the run is still wanted and had a slot."""
    ts = t.handed.get(run_id)
    if ts is not None:
        if ts.state is not EXECUTING:
            return None
        t.move(ts, LONG_RUNNING)
        _void_followers(t, ts)  # it may run for hours: what waits for it waits here
        _free_slot(t, ts)
        return ts
    stale = t.stale.get(run_id)
    if stale is not None and stale.holds_slot:
        stale.holds_slot = False
        _free_slot(t, stale)
    return None


def give_up_run(t: Tables, ts: TaskState) -> None:
    """The run of a task that is with the executor is not wanted any more; the caller says what becomes of the task."""
    del t.handed[ts.run_id]
    t.limits.pop(ts.run_id, None)
    resources = ts.spec.resources if ts.spec is not None else None
    t.stale[ts.run_id] = StaleRun(ts, ts.cost_s, ts.size, ts.state is EXECUTING, resources, ts.since)
    ts.stale_runs += 1
    ts.size = 0
    t.outbox.instructions.append(CancelExecute(ts.run_id, ts.key))
    t.followers.void.discard(ts.run_id)
    _void_followers(t, ts)


def learn_duration(t: Tables, spec: ComputeTask, duration_s: float) -> None:
    """Remember how long a task took of which the scheduler did not know it, for the others of its kind."""
    kind = _kind(spec)
    known = t.durations.get(kind)
    t.durations[kind] = duration_s if known is None else (known + duration_s) / 2


def learn_size(t: Tables, spec: ComputeTask, nbytes: int) -> None:
    """Remember how much memory a result takes, for the next of its kind: a large one at once, smaller ones by and
    by."""
    kind = _kind(spec)
    known = t.sizes.get(kind, -1)
    if nbytes != known:
        t.sizes[kind] = nbytes if nbytes > known else (known + nbytes) // 2


def _void_followers(t: Tables, ts: TaskState) -> None:
    """Nothing may lie behind the run of this task any more."""
    followers = t.followers
    followers.leads.pop(ts, None)
    if ts.run_id not in followers.behind:
        return
    for run_id in followers.all_behind(ts.run_id):
        follower = t.handed.get(run_id)
        if follower is not None:  # else it is stale, and taken back already
            followers.void.add(run_id)
            followers.leads.pop(follower, None)
            t.outbox.instructions.append(CancelExecute(run_id, follower.key))


def _kind(spec: ComputeTask) -> bytes | str:
    return spec.function or key_prefix(spec.key)


def _end_stale(t: Tables, run_id: int) -> None:
    stale = t.stale.pop(run_id, None)
    if stale is None:
        return
    t.stops.pop(run_id, None)
    if stale.holds_slot:
        _free_slot(t, stale)
    if stale.resources:
        t.resources.release(stale.resources)
    ts = stale.task
    ts.stale_runs -= 1
    if ts.state is CANCELLED:
        settle(t, ts)


def _free_slot(t: Tables, run: TaskState | StaleRun) -> None:
    t.slots_used -= 1
    if run.size:
        t.coming_nbytes -= run.size
        run.size = 0
    # The sum of many additions and subtractions is never quite zero.
    t.backlog_s = t.backlog_s - run.cost_s if t.slots_used or t.followers.follows else 0.0
