"""Cancelled by a client, or lost beyond recomputing. Pure."""

from __future__ import annotations

from distributed.base.keys import Key
from distributed.scheduler.state_machine.entities import NEEDING, ClientState, TaskState
from distributed.scheduler.state_machine.reports import report_cancelled
from distributed.scheduler.state_machine.tables import Tables, note, set_state
from distributed.scheduler.state_machine.transitions.announced import close
from distributed.scheduler.state_machine.transitions.release import leave_state, release_unneeded, unwant

MAX_LOST_DATA = 1000


def cancel_by_client(
    state: Tables, tasks: list[TaskState], cs: ClientState | None, force: bool, told: dict[ClientState, list[Key]]
) -> list[TaskState]:
    """The client gives the tasks up, and its tasks that need them; ``force``: all clients do.

    Other clients' interest keeps a task, and what depends on it, alive. ``told`` collects whom to tell of what.
    Returns the tasks that may be unneeded now.
    """
    closure: dict[TaskState, None] = {}
    stack = list(reversed(tasks))
    while stack:
        ts = stack.pop()
        if ts in closure:
            continue
        closure[ts] = None
        losing = ts.who_wants if force else tuple([c for c in ts.who_wants if c is cs])
        if len(losing) == len(ts.who_wants):
            stack.extend(ts.dependents)
        for client in losing:
            unwant(ts, client)
            told.setdefault(client, []).append(ts.key)
    return list(closure)


def cancel_lost(state: Tables, tasks: list[TaskState], reason: str) -> None:
    """The tasks cannot be computed (any more): nor can what needs them. All clients are told, now, and when they submit
    something that needs them."""
    for ts in tasks:
        if ts.run_spec is None:
            state.lost_data[ts.key] = reason
    while len(state.lost_data) > MAX_LOST_DATA:
        del state.lost_data[next(iter(state.lost_data))]
    closure: dict[TaskState, None] = {}
    stack = list(reversed(tasks))
    while stack:
        ts = stack.pop()
        if ts in closure or ts.state == "forgotten":
            continue
        closure[ts] = None
        stack.extend([d for d in ts.dependents if d.state in NEEDING])
    told: dict[ClientState, list[Key]] = {}
    for ts in closure:
        note(state, ts.key, "lost", reason)
        for cs in ts.who_wants:
            told.setdefault(cs, []).append(ts.key)
        for cs in ts.who_wants:
            unwant(ts, cs)
        if ts in state.announced:
            close(state, ts)
    unneeded: list[TaskState] = []
    for ts in closure:
        if ts.state != "released":
            leave_state(state, ts, unneeded)
            set_state(state, ts, "released")
    report_cancelled(state, told, reason, lost=True)
    unneeded.extend(closure)
    release_unneeded(state, unneeded)
