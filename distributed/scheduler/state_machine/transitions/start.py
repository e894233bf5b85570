"""released -> waiting: a task is needed, and so are its dependencies. Pure."""

from __future__ import annotations

from distributed.scheduler.state_machine.entities import TaskState
from distributed.scheduler.state_machine.reports import names_of
from distributed.scheduler.state_machine.tables import Tables, set_state
from distributed.scheduler.state_machine.transitions.cancel import cancel_lost
from distributed.scheduler.state_machine.transitions.fail import fail


def start(state: Tables, tasks: list[TaskState]) -> None:
    """Make the released ones of ``tasks`` (consumed) wait for their dependencies, and start these if need be.

    A task whose dependency has failed fails alike; one whose value or recipe is lost is cancelled.
    """
    failed: list[tuple[TaskState, TaskState]] = []
    lost: list[TaskState] = []
    stack = tasks
    ready = state.ready
    announced = state.announced
    while stack:
        ts = stack.pop()
        if ts.state != "released":
            continue
        n_waiting = 0
        for dep in ts.dependencies:
            dep.n_waiters += 1
            found = dep.state
            if found != "memory":
                n_waiting += 1
                if found == "released":
                    stack.append(dep)
                elif found == "erred":
                    failed.append((ts, dep))
        ts.n_waiting = n_waiting
        set_state(state, ts, "waiting")
        if announced and ts in announced:
            ts.n_waiting += 1
        elif ts.run_spec is None:
            lost.append(ts)
        elif not n_waiting:
            ready.append(ts)
    for ts, dep in failed:
        if ts.state == "waiting" and dep.state == "erred" and dep.error is not None:
            fail(state, ts, dep.error, dep.exception_blame)
    if lost:
        lost = [ts for ts in lost if ts.state == "waiting"]
        cancel_lost(state, lost, f"lost dependencies: {names_of(lost)}")
