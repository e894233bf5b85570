"""Tasks sent to a worker before their inputs are there, because the same worker computes these. Pure.

A chain or a branch of a tree would otherwise cost a round trip to the scheduler for each link. A task goes ahead when
all its missing inputs are assigned to one worker and the others are there already, that worker has expected work for
less than ``prefetch_s`` a thread, and the inputs have no more dependents than the worker has threads: so nothing waits
there that could run elsewhere meanwhile.

It is then ``processing`` with ``n_waiting`` > 0. Whatever takes one of its missing inputs away from the worker (it
fails, is stolen, given back, or the worker dies) recalls the task too: see ``recall`` in ``transitions/assign.py``.
"""

from __future__ import annotations

from distributed.scheduler.state_machine.entities import TaskState, WorkerState
from distributed.scheduler.state_machine.tables import Tables
from distributed.scheduler.state_machine.transitions.assign import assign

# With more inputs it is rarely true that all are on one worker, and dear to find out.
MAX_DEPENDENCIES = 8


def send_ahead(state: Tables, ts: TaskState, ws: WorkerState, stimulus_id: str) -> None:
    """``ts`` has just been assigned to ``ws``: let the tasks that it makes runnable there follow it."""
    front = [ts]
    nthreads = ws.nthreads
    prefetch_s = ws.prefetch_s
    while front and ws.occupancy < prefetch_s:
        task = front.pop()
        dependents = task.dependents
        if len(dependents) > nthreads:
            continue
        for dependent in dependents:
            if dependent.state == "waiting" and _may_follow(dependent, ws) and dependent not in state.announced:
                assign(state, dependent, ws, stimulus_id)
                front.append(dependent)


def _may_follow(ts: TaskState, ws: WorkerState) -> bool:
    policy = ts.policy
    dependencies = ts.dependencies
    if not policy.free or policy.actor or ts.rare is not None or len(dependencies) > MAX_DEPENDENCIES:
        return False
    return all(dep.processing_on is ws or ws in dep.who_has for dep in dependencies)
