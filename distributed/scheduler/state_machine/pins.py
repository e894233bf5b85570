"""Tasks that a shuffle binds to the worker where their share of the data lies, and tasks whose results it voids. Pure.

A pin replaces the task's policy by one that names a single worker; all else that the submission said stays. Tasks of
one policy that go to one worker share the pinned one, so that placing them costs no more than before.
"""

from __future__ import annotations

from msgspec.structs import replace

from distributed.scheduler.state_machine.entities import Policy, TaskState
from distributed.scheduler.state_machine.events import PinTasks, RecomputeTasks
from distributed.scheduler.state_machine.tables import Tables
from distributed.scheduler.state_machine.transitions.assign import back_to_waiting, requeue
from distributed.scheduler.state_machine.transitions.lost import lose_values
from distributed.scheduler.state_machine.transitions.release import drop_value


def on_pin_tasks(state: Tables, event: PinTasks, source: str) -> None:
    made: dict[tuple[Policy, str], Policy] = {}
    for key, address in event.pins:
        ts = state.tasks.get(key)
        if ts is None:
            continue
        origin = ts.policy.unpinned or ts.policy
        if address is None:
            _set_policy(state, ts, origin)
            continue
        policy = made.get((origin, address))
        if policy is None:
            policy = made[origin, address] = _pinned(origin, address)
        _set_policy(state, ts, policy)


def _pinned(origin: Policy, address: str) -> Policy:
    policy = Policy(replace(origin.options, workers=(address,), allow_other_workers=False))
    policy.unpinned = origin
    return policy


def _set_policy(state: Tables, ts: TaskState, policy: Policy) -> None:
    if ts.policy is policy:
        return
    ts.policy = policy
    # What was looked at with the old policy is looked at again.
    if ts.state in ("queued", "no-worker"):
        back_to_waiting(state, ts)
    elif ts.state == "processing" and ts.n_waiting:
        requeue(state, ts, free=True)


def on_recompute_tasks(state: Tables, event: RecomputeTasks, source: str) -> None:
    """Drop the values, take back the runs, and start again what is needed."""
    dropped: list[TaskState] = []
    for key in event.keys:
        ts = state.tasks.get(key)
        if ts is None:
            continue
        if ts.state == "memory" and ts.run_spec is not None:
            drop_value(state, ts)
            dropped.append(ts)
        elif ts.state == "processing":
            requeue(state, ts, free=True)
    lose_values(state, dropped, source, event.reason)
