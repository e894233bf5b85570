"""A key is to be computed here, and the ways in which that ends. Pure."""

from __future__ import annotations

from distributed.messages.scheduler_to_worker import ComputeTask, SharedNeeds
from distributed.messages.worker_to_scheduler import TaskFinished
from distributed.worker.state_machine.tables import Tables
from distributed.worker.state_machine.task import (
    CANCELLED,
    EXECUTING,
    FORGOTTEN,
    HANDED_OVER,
    MEMORY,
    NOT_STARTED,
    READY,
    RELEASED,
    TO_FETCH,
    WAITING,
    TaskState,
)
from distributed.worker.state_machine.transitions.executing import give_up_run, leave_to_others, may_lead
from distributed.worker.state_machine.transitions.fetching import end, unlink, want
from distributed.worker.state_machine.transitions.queueing import (
    leave_memory,
    leave_queue,
    make_ready,
)


def on_shared_needs(t: Tables, event: SharedNeeds) -> None:
    """Of the tasks that follow."""
    t.shared = event.needs
    t.shared_records = ()


def compute(t: Tables, spec: ComputeTask) -> None:
    """The scheduler orders a run; the newest order for a key counts."""
    key = spec.key
    if spec.shared:
        spec.needs = t.shared
    ts = t.tasks.get(key)
    if ts is None:
        ts = t.tasks[key] = TaskState(key)
    elif not _clear_for(t, ts, spec):
        return
    ts.run_id = spec.run_id
    ts.spec = spec
    ts.priority = spec.priority
    ts.actor = spec.actor
    if spec.needs:
        _link(t, ts, spec)
    elif spec.resources:
        make_ready(t, ts)
    else:  # the most frequent case, spelled out
        t.steps.append((t.now, key, ts.state, READY, spec.run_id))
        ts.state = READY
        t.ready.push(ts)


def _clear_for(t: Tables, ts: TaskState, spec: ComputeTask) -> bool:
    """End whatever goes on for a known key; False when there is nothing to compute."""
    if spec.run_id <= ts.run_id:
        return False  # an order that was overtaken by a newer one, or came twice
    state = ts.state
    if state is MEMORY:
        ts.run_id = spec.run_id
        t.outbox.messages.append(
            TaskFinished(ts.key, spec.run_id, ts.nbytes, 0.0, ts.type_name, unshippable=ts.unshippable)
        )
        return False
    if state in NOT_STARTED:
        leave_queue(t, ts, RELEASED)
        _unlink_later(t, ts, spec)
    elif state in HANDED_OVER:
        give_up_run(t, ts)
        _unlink_later(t, ts, spec)
    elif state in TO_FETCH:
        t.missing.pop(ts, None)
    ts.fetch = None  # a flight may still be under way; what it brings is dropped
    return True


def _unlink_later(t: Tables, ts: TaskState, spec: ComputeTask) -> None:
    """Let go of the inputs of an older run, but not of those that the new one needs too."""
    kept = {need.key for need in spec.needs}
    dropped = tuple([dep for dep in ts.dependencies if dep.key not in kept])
    for dep in ts.dependencies:
        if dep.key in kept:
            del dep.dependents[ts]
    ts.dependencies = dropped
    unlink(t, ts)


def _link(t: Tables, ts: TaskState, spec: ComputeTask) -> None:
    t.move(ts, WAITING)
    shared = spec.shared
    if shared and t.shared_records and not _gone(t.shared_records):
        ts.dependencies = t.shared_records
        waiting = _link_again(t, ts, spec)
    else:
        waiting = _link_each(t, ts, spec)
        if shared:
            t.shared_records = ts.dependencies
    ts.waiting_count = waiting
    if not waiting:
        make_ready(t, ts)
    elif waiting == 1:
        for dep in ts.dependencies:
            if dep.state is EXECUTING:
                may_lead(t, dep)


def _link_each(t: Tables, ts: TaskState, spec: ComputeTask) -> int:
    dependencies: dict[TaskState, None] = {}
    waiting = 0
    for need in spec.needs:
        dep = t.tasks.get(need.key)
        if dep is None:
            dep = t.tasks[need.key] = TaskState(need.key)
        elif dep in dependencies:
            continue
        dependencies[dep] = None
        dep.dependents[ts] = None
        if dep.state is not MEMORY:
            waiting += 1
            want(t, dep, need.holders, need.nbytes, spec.priority)
    ts.dependencies = tuple(dependencies)
    return waiting


def _gone(records: tuple[TaskState, ...]) -> bool:
    return FORGOTTEN in [dep.state for dep in records]


def _link_again(t: Tables, ts: TaskState, spec: ComputeTask) -> int:
    """Like ``_link_each`` for the records that another task was linked to: their holders are known already."""
    priority = spec.priority
    waiting = 0
    for dep in ts.dependencies:
        dep.dependents[ts] = None
        if dep.state is not MEMORY:
            waiting += 1
            if dep.state not in TO_FETCH or priority < dep.priority:
                need = next(need for need in spec.needs if need.key == dep.key)
                want(t, dep, need.holders, need.nbytes, priority)
    return waiting


def give_back(t: Tables, ts: TaskState) -> None:
    """Let others run a task that has not started here."""
    leave_queue(t, ts, RELEASED)
    leave_to_others(t, ts)


def free(t: Tables, ts: TaskState) -> None:
    """The scheduler does not want this key here any more, in whatever state it is."""
    state = ts.state
    if state is MEMORY:
        t.outbox.evict(ts.key)
        if not ts.dependents and not ts.stale_runs:  # the most frequent case, spelled out
            t.nmemory -= 1
            t.managed_nbytes -= ts.nbytes
            if ts.nbytes >= t.settings.min_spill_nbytes:
                t.spilling.leave(ts)
            t.move(ts, FORGOTTEN)
            del t.tasks[ts.key]
            return
        leave_memory(t, ts, RELEASED)
    elif state in NOT_STARTED:
        leave_queue(t, ts, RELEASED)
    elif state in HANDED_OVER:
        give_up_run(t, ts)
        t.move(ts, RELEASED)
    elif state in TO_FETCH and ts.fetch is not None:
        ts.fetch.acquired = False
        if ts.fetch.peer is not None and ts.dependents:
            return  # still of use here; the copy is announced when it comes
    elif state is CANCELLED:
        return
    end(t, ts)


def lose(t: Tables, ts: TaskState) -> None:
    """The value was here and is not."""
    if ts.state is MEMORY:
        leave_memory(t, ts, RELEASED)
        t.outbox.replica_dropped(ts.key)
        end(t, ts, ask=True)
