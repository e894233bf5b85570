"""Between the queues and the executor: handing over, slots, runs that end or are given up. Pure.

Each free slot gets a task. Beyond that, tasks are handed over ahead of time as long as the work that lies with the
executor is expected to take less than ``handover_s`` per slot: short tasks then run back to back without a round trip
through the event loop, while long ones (or ones of unknown length) stay here, where they can still be stolen, freed or
overtaken. A long task books no more than its slot's share, so that it does not keep the other slots short.
"""

from __future__ import annotations

from distributed.base.keys import key_prefix
from distributed.messages.scheduler_to_worker import ComputeTask
from distributed.worker.state_machine.instructions import CancelExecute, Execute
from distributed.worker.state_machine.tables import RUNNING, Tables
from distributed.worker.state_machine.task import CANCELLED, EXECUTING, LONG_RUNNING, StaleRun, TaskState
from distributed.worker.state_machine.transitions.fetching import settle
from distributed.worker.state_machine.transitions.spilling import is_full, use


def start_tasks(t: Tables) -> None:
    """Hand over what may be handed over now. Runs once per batch of events, unless the worker is closing."""
    ready, resources = t.ready, t.resources
    if t.status != RUNNING or not (ready.count or resources.queues) or (t.spilling.leaving and is_full(t)):
        return
    share_s = t.settings.handover_s
    floor_s = t.settings.min_cost_s
    most_s = max(share_s, floor_s)
    limit_s = share_s * t.nthreads + 1e-9  # sums of floats
    while True:
        ts = ready.peek()
        if resources.queues:
            other = resources.best()
            if other is not None and (ts is None or other.priority < ts.priority):
                if t.slots_used >= t.nthreads:
                    return
                resources.start(other)
                _hand_over(t, other, share_s)
                continue
        if ts is None or ts.spec is None:
            return
        cost_s = ts.spec.duration_s
        if cost_s < 0 and t.durations:
            cost_s = t.durations.get(_kind(ts.spec), -1.0)
        if cost_s < 0 or ts.spec.rules is not None:
            # (A run with a limit begins when it is handed over, or its time would not be its own.)
            known, cost_s = False, share_s
        else:
            known = True
            cost_s = floor_s if cost_s < floor_s else min(cost_s, most_s)
        if t.slots_used >= t.nthreads and (not known or t.backlog_s + cost_s > limit_s):
            return
        ready.pop()
        _hand_over(t, ts, cost_s)


def _hand_over(t: Tables, ts: TaskState, cost_s: float) -> None:
    spec = ts.spec
    assert spec is not None
    now = t.now
    run_id = spec.run_id
    t.steps.append((now, spec.key, ts.state, EXECUTING, run_id))
    ts.state = EXECUTING
    ts.since = now
    ts.cost_s = cost_s
    t.handed[run_id] = ts
    t.slots_used += 1
    t.backlog_s += cost_s
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
        )
    )
    if spec.rules is not None and spec.rules.timeout_s is not None:
        t.limits[run_id] = now + spec.rules.timeout_s
        t.wake_by(t.limits[run_id])
    if ts.dependencies and (t.spilling.resident or t.spilling.absent):
        use(t, ts.dependencies)


def end_run(t: Tables, run_id: int) -> TaskState | None:
    """The terminal event of a run has come: its slot and resources are free. The task, if the run is still wanted."""
    ts = t.handed.pop(run_id, None)
    if ts is None:
        _end_stale(t, run_id)
        return None
    if ts.state is EXECUTING:
        t.slots_used -= 1
        # The sum of many additions and subtractions is never quite zero.
        t.backlog_s = t.backlog_s - ts.cost_s if t.slots_used else 0.0
    spec = ts.spec
    if spec is not None and spec.resources:
        t.resources.release(spec.resources)
    if t.limits:
        t.limits.pop(run_id, None)
    t.executed_count += 1
    return ts


def secede(t: Tables, run_id: int) -> TaskState | None:
    """A run goes on without its slot. The task, if the run is still wanted and had a slot."""
    ts = t.handed.get(run_id)
    if ts is not None:
        if ts.state is not EXECUTING:
            return None
        t.move(ts, LONG_RUNNING)
        _free_slot(t, ts.cost_s)
        return ts
    stale = t.stale.get(run_id)
    if stale is not None and stale.holds_slot:
        stale.holds_slot = False
        _free_slot(t, stale.cost_s)
    return None


def give_up_run(t: Tables, ts: TaskState) -> None:
    """The run of a task that is with the executor is not wanted any more; the caller says what becomes of the task."""
    del t.handed[ts.run_id]
    t.limits.pop(ts.run_id, None)
    resources = ts.spec.resources if ts.spec is not None else None
    t.stale[ts.run_id] = StaleRun(ts, ts.cost_s, ts.state is EXECUTING, resources, ts.since)
    ts.stale_runs += 1
    t.outbox.instructions.append(CancelExecute(ts.run_id, ts.key))


def learn_duration(t: Tables, spec: ComputeTask, duration_s: float) -> None:
    """Remember how long a task took of which the scheduler did not know it, for the others of its kind."""
    kind = _kind(spec)
    known = t.durations.get(kind)
    t.durations[kind] = duration_s if known is None else (known + duration_s) / 2


def _kind(spec: ComputeTask) -> bytes | str:
    return spec.function or key_prefix(spec.key)


def _end_stale(t: Tables, run_id: int) -> None:
    stale = t.stale.pop(run_id, None)
    if stale is None:
        return
    t.stops.pop(run_id, None)
    if stale.holds_slot:
        _free_slot(t, stale.cost_s)
    if stale.resources:
        t.resources.release(stale.resources)
    ts = stale.task
    ts.stale_runs -= 1
    if ts.state is CANCELLED:
        settle(t, ts)


def _free_slot(t: Tables, cost_s: float) -> None:
    t.slots_used -= 1
    t.backlog_s = t.backlog_s - cost_s if t.slots_used else 0.0
