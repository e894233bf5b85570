"""Data that clients are about to put on workers. Pure.

From the announcement until the data is there (or the client gives it up) no worker is told to forget the key: such an
order could overtake, or be overtaken by, the data, which comes over another connection. A task without a value is held
in ``waiting`` meanwhile, with the data as one more thing that it waits for, and is not computed.
"""

from __future__ import annotations

from distributed.base.keys import Key
from distributed.scheduler.state_machine.entities import ClientState, TaskState
from distributed.scheduler.state_machine.tables import Announcement, Tables


def free_copy(state: Tables, address: str, key: Key) -> None:
    """A worker has, or may have, a copy that nobody expects there: it is to forget it. But not while that could be the
    data that a client is just putting there: then it is looked at when that is over."""
    if state.announced:
        ts = state.tasks.get(key)
        announcement = None if ts is None else state.announced.get(ts)
        if announcement is not None:
            announcement.doubtful[address] = None
            return
    state.out.free(address, key, state.context)


def close(state: Tables, ts: TaskState) -> None:
    """Nobody is about to place the task's value any more: copies that are not known as such go now."""
    for address in state.announced.pop(ts, Announcement()).doubtful:
        ws = state.workers.get(address)
        if ws is not None and ws.alive and ws not in ts.who_has:
            state.out.free(address, ts.key, state.context)


def settle(state: Tables, ts: TaskState) -> bool:
    """If nobody is about to place the task's value any more: compute it, where it is held and has a recipe. True when
    it is held and has none."""
    announcement = state.announced.get(ts)
    if announcement is None or announcement.places:
        return False
    close(state, ts)
    if ts.state != "waiting":
        return False
    ts.n_waiting -= 1
    if ts.run_spec is None:
        return True
    if not ts.n_waiting:
        state.ready.append(ts)
    return False


def call_off(state: Tables, ts: TaskState, cs: ClientState, number: int | None = None) -> bool:
    """The client will not place the value of the task (by the scatter of this number; None: by any). Whether it is
    lost with that."""
    announcement = state.announced.get(ts)
    if announcement is None:
        return False
    for place in list(announcement.places):
        if place[0] is cs and (number is None or place[1] == number):
            del announcement.places[place]
    return settle(state, ts)
