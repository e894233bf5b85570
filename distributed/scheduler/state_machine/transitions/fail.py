"""To erred, and back by retry. Pure."""

from __future__ import annotations

from distributed.messages.payload import ErrorInfo
from distributed.messages.scheduler_to_client import KeysRetried
from distributed.scheduler.state_machine.entities import NEEDING, ClientState, TaskState
from distributed.scheduler.state_machine.reports import key_erred, report_to_wanters
from distributed.scheduler.state_machine.tables import Tables, set_state
from distributed.scheduler.state_machine.transitions.release import leave_state, release_unneeded, unwant


def fail(state: Tables, ts: TaskState, error: ErrorInfo, blame: TaskState | None = None, free: bool = True) -> None:
    """The task will have no value, and so will all that need it.

    ``free``: its worker has to be told (it has not reported this failure itself).
    """
    blame = blame if blame is not None else ts
    unneeded: list[TaskState] = []
    stack = [ts]
    while stack:
        task = stack.pop()
        if task.state not in NEEDING and task is not ts:
            continue
        on = None if task.n_waiting else task.processing_on
        leave_state(state, task, unneeded, free or task is not ts)
        rare = task.make_rare()
        rare.error = error
        rare.blame = blame
        if on is not None:
            rare.erred_on.append(on.address)
        set_state(state, task, "erred")
        report_to_wanters(state, task, key_erred(task))
        if state.fire_and_forget in task.who_wants:
            unwant(task, state.fire_and_forget)
        stack.extend(task.dependents)
        unneeded.append(task)
    release_unneeded(state, unneeded)


def revive(state: Tables, tasks: list[TaskState]) -> list[TaskState]:
    """Make erred tasks, the erred tasks below them and all that failed because of these, released again.

    Returns those that are wanted, for the caller to start.
    """
    closure: dict[TaskState, None] = {}
    stack = [ts for ts in tasks if ts.state == "erred"]
    while stack:
        ts = stack.pop()
        if ts in closure:
            continue
        closure[ts] = None
        stack.extend([dep for dep in ts.dependencies if dep.state == "erred"])
        stack.extend([dependent for dependent in ts.dependents if dependent.state == "erred"])
    keys: dict[ClientState, list[TaskState]] = {}
    for ts in closure:
        leave_state(state, ts, [])
        ts.make_rare().forgive()
        set_state(state, ts, "released")
        for cs in ts.who_wants:
            keys.setdefault(cs, []).append(ts)
    for cs, revived in keys.items():
        if not cs.mute:
            state.out.to_clients[cs.client_key].append(KeysRetried([ts.key for ts in revived]))
    return [ts for ts in closure if ts.who_wants]
