"""A replica, or the last one, is gone. Pure."""

from __future__ import annotations

from distributed.base.keys import Key
from distributed.messages.payload import ErrorInfo
from distributed.messages.scheduler_to_client import KeysLost
from distributed.scheduler.state_machine.entities import ClientState, Members, TaskState, WorkerState
from distributed.scheduler.state_machine.reports import names_of
from distributed.scheduler.state_machine.tables import Tables, note, set_state
from distributed.scheduler.state_machine.transitions.assign import back_to_waiting, requeue
from distributed.scheduler.state_machine.transitions.cancel import cancel_lost
from distributed.scheduler.state_machine.transitions.fail import fail
from distributed.scheduler.state_machine.transitions.release import leave_state, release_unneeded
from distributed.scheduler.state_machine.transitions.start import start


def remove_replica(state: Tables, ts: TaskState, ws: WorkerState) -> bool:
    """Strike one copy off; true when it was the last."""
    if ws not in ts.who_has:
        return False
    del ws.has_what[ts]
    if ts.nbytes > 0:
        ws.nbytes -= ts.nbytes
    ws.actors.pop(ts, None)
    ts.who_has = Members([holder for holder in ts.who_has if holder is not ws])
    if len(ts.who_has) == 1:
        state.replicated.pop(ts, None)
    return not ts.who_has


def lose_values(state: Tables, tasks: list[TaskState], holder: str, cause: str) -> int:
    """The last copies of these are gone: compute again what is needed. Returns how many tasks run for that."""
    for ts in tasks:
        if ts.policy.actor and _is_lost(ts) and (ts.who_wants or ts.n_waiters) and not _restarts(state, ts, cause):
            text = f"the worker {holder} that held the actor {ts.key!r} was lost: {cause}"
            fail(state, ts, ErrorInfo("ActorLost", text))
    again: list[TaskState] = []
    gone: list[TaskState] = []
    unneeded: list[TaskState] = []
    for ts in tasks:
        if not _is_lost(ts):
            continue
        if not ts.who_wants and not ts.n_waiters:
            unneeded.append(ts)
            continue
        _back_to_released(state, ts)
        if ts.run_spec is None and ts not in state.announced:
            gone.append(ts)
        else:
            again.append(ts)
    release_unneeded(state, unneeded)
    if gone:
        why = "what was scattered cannot be computed again"
        cancel_lost(state, gone, f"lost: {names_of(gone)} was held only by worker {holder} ({cause}); {why}")
    # What was needed only by something that is cancelled now is not.
    release_unneeded(state, again[::-1])
    again = [ts for ts in again if ts.state == "released" and (ts.who_wants or ts.n_waiters)]
    lost_by: dict[ClientState, list[Key]] = {}
    for ts in again:
        for cs in ts.who_wants:
            if not cs.mute:
                lost_by.setdefault(cs, []).append(ts.key)
    for cs, keys in lost_by.items():
        state.out.to_clients[cs.client_key].append(KeysLost(keys))
    n = _n_to_run(again)
    start(state, again[::-1])
    return n


def _restarts(state: Tables, ts: TaskState, cause: str) -> bool:
    """Whether an actor that is lost is made anew, as any other value is computed again."""
    most = ts.policy.options.max_restarts
    if not most or ts.make_rare().restarts_used >= most:
        return False
    ts.make_rare().restarts_used += 1
    note(state, ts.key, "actor-restarts", cause)
    return True


def _n_to_run(tasks: list[TaskState]) -> int:
    """How many tasks run when these are computed: they, and those below them whose values are not kept."""
    found: dict[TaskState, None] = {}
    stack = list(tasks)
    while stack:
        ts = stack.pop()
        if ts not in found and ts.state == "released":
            found[ts] = None
            stack.extend(ts.dependencies)
    return len(found)


def _is_lost(ts: TaskState) -> bool:
    return ts.state == "memory" and not ts.who_has


def _back_to_released(state: Tables, ts: TaskState) -> None:
    """memory -> released; what was ready because of it waits again."""
    leave_state(state, ts, [])
    set_state(state, ts, "released")
    recalled: list[TaskState] = []
    for dependent in ts.dependents:
        found = dependent.state
        if found == "waiting":
            dependent.n_waiting += 1
            if state.delayed:
                state.delayed.pop(dependent, None)
        elif found == "processing":
            recalled.append(dependent)
        elif found in ("queued", "no-worker"):
            back_to_waiting(state, dependent)
    for dependent in recalled:
        if dependent.state == "processing":  # one may have followed another
            requeue(state, dependent, free=True)
