"""Who may run: entering and leaving the queues and memory, and what that means for the tasks above. Pure."""

from __future__ import annotations

from distributed.worker.state_machine.tables import Tables
from distributed.worker.state_machine.task import CONSTRAINED, MEMORY, READY, WAITING, TaskState


def make_ready(t: Tables, ts: TaskState) -> None:
    """All inputs are here: join the queue."""
    if ts.spec is not None and ts.spec.resources:
        t.move(ts, CONSTRAINED)
        t.resources.push(ts)
    else:
        t.move(ts, READY)
        t.ready.push(ts)


def leave_queue(t: Tables, ts: TaskState, state: str) -> None:
    """Go from *waiting*, *ready* or *constrained* to ``state``. Comes before any change of the task's ``spec``."""
    before = ts.state
    t.move(ts, state)
    ts.waiting_count = 0
    if before is READY:
        t.ready.discard(ts)
    elif before is CONSTRAINED:
        t.resources.discard(ts)


def wait_or_queue(t: Tables, ts: TaskState) -> None:
    """Count the inputs that are not here; wait for them, or join the queue."""
    ts.waiting_count = sum(dep.state is not MEMORY for dep in ts.dependencies)
    if ts.waiting_count:
        t.move(ts, WAITING)
    else:
        make_ready(t, ts)


def enter_memory(t: Tables, ts: TaskState, nbytes: int) -> None:
    """The value is here: tasks above that wait for nothing else become ready."""
    t.steps.append((t.now, ts.key, ts.state, MEMORY, ts.run_id))
    ts.state = MEMORY
    ts.nbytes = nbytes
    ts.spec = ts.fetch = None
    t.nmemory += 1
    t.managed_nbytes += nbytes
    t.entered_nbytes += nbytes
    if nbytes >= t.settings.min_spill_nbytes:
        t.spilling.enter(ts)
    for dependent in ts.dependents:
        if dependent.state is WAITING:
            dependent.waiting_count -= 1
            if not dependent.waiting_count:
                make_ready(t, dependent)


def leave_memory(t: Tables, ts: TaskState, state: str) -> None:
    """The value is here no more: tasks above that have not started wait for it again."""
    t.move(ts, state)
    t.nmemory -= 1
    t.managed_nbytes -= ts.nbytes
    if ts.nbytes >= t.settings.min_spill_nbytes:
        t.spilling.leave(ts)
    ts.unshippable = None
    ts.actor = False
    for dependent in ts.dependents:
        if dependent.state is WAITING:
            dependent.waiting_count += 1
        elif dependent.state in (READY, CONSTRAINED):
            leave_queue(t, dependent, WAITING)
            dependent.waiting_count = 1
