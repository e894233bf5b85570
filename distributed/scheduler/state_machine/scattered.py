"""Data that clients put on workers themselves: announced before it is sent, told of when it is there. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from distributed.base.keys import Key
from distributed.messages.client_to_scheduler import DataAnnounced, DataScattered, DataWithdrawn
from distributed.messages.worker_to_scheduler import DataReceived
from distributed.scheduler.state_machine.entities import ClientState, TaskState, WorkerState
from distributed.scheduler.state_machine.replicas import add_replica, set_nbytes
from distributed.scheduler.state_machine.reports import names_of, report_key
from distributed.scheduler.state_machine.tables import Announcement, Tables, set_state
from distributed.scheduler.state_machine.transitions.announced import call_off, free_copy, settle
from distributed.scheduler.state_machine.transitions.assign import back_to_waiting, requeue
from distributed.scheduler.state_machine.transitions.cancel import cancel_lost
from distributed.scheduler.state_machine.transitions.release import leave_state, release_unneeded, unwant, want
from distributed.scheduler.state_machine.transitions.start import start


def on_data_announced(state: Tables, event: DataAnnounced, source: str) -> None:
    """A client is about to put data on workers: what it wants from now on, and nobody is told to forget."""
    cs = state.clients.get(source)
    if cs is None:
        return
    to_start: list[TaskState] = []
    for key in event.keys:
        ts = state.tasks.get(key)
        if ts is None:
            ts = _scattered_task(state, key)
        want(ts, cs)
        state.lost_data.pop(key, None)
        announcement = state.announced.get(ts)
        if announcement is not None:
            announcement.places[cs, event.number] = None
            continue
        state.announced[ts] = Announcement({(cs, event.number): None})
        _hold(state, ts, to_start)
    to_start.reverse()
    start(state, to_start)


def _hold(state: Tables, ts: TaskState, to_start: list[TaskState]) -> None:
    """The task's value will come from outside: it is not computed meanwhile."""
    if ts.state == "processing":
        requeue(state, ts, free=True)
    elif ts.state == "queued" or ts.state == "no-worker":
        back_to_waiting(state, ts)
    elif ts.state == "waiting":
        ts.n_waiting += 1
        state.delayed.pop(ts, None)
    elif ts.state == "released":
        to_start.append(ts)


def on_data_withdrawn(state: Tables, event: DataWithdrawn, source: str) -> None:
    """A scatter has failed, or was given up."""
    cs = state.clients.get(source)
    if cs is not None:
        tasks = [ts for key in event.keys if (ts := state.tasks.get(key)) is not None]
        call_off_all(state, tasks, cs, event.number)


def call_off_all(state: Tables, tasks: Iterable[TaskState], cs: ClientState, number: int | None = None) -> None:
    """The client will not place these. Who else waits for their values is told that these are lost; the caller
    releases what nobody needs."""
    lost = [ts for ts in tasks if call_off(state, ts, cs, number) and (ts.who_wants or ts.n_waiters)]
    if lost:
        cancel_lost(state, lost, f"lost: the client that was to scatter {names_of(lost)} has given that up, or is gone")


def on_data_scattered(state: Tables, event: DataScattered, source: str) -> None:
    """A client has put data on workers. What sits on workers that are gone by now is lost; what was called off
    meanwhile does not count."""
    cs = state.clients.get(source)
    lost: list[TaskState] = []
    for replica in event.replicas:
        holders = [ws for address in replica.workers if (ws := state.workers.get(address)) is not None and ws.alive]
        ts = state.tasks.get(replica.key)
        if cs is None or (event.number and not _was_announced(state, ts, cs, event.number)):
            for ws in holders:
                if ts is None or (ws not in ts.who_has and ts.processing_on is not ws):
                    free_copy(state, ws.address, replica.key)
            continue
        if ts is None:
            ts = _scattered_task(state, replica.key)
        want(ts, cs)
        ts.type = replica.type_name or ts.type
        state.lost_data.pop(replica.key, None)
        if holders or ts.state == "memory":
            if len(replica.workers) > 1:
                ts.make_rare().copies = len(replica.workers)
            _into_memory(state, ts, holders, replica.nbytes, cs)
        if settle(state, ts) or ts.state == "released":
            lost.append(ts)
        elif ts.state == "erred":
            report_key(state, ts, cs)
    if lost:
        cancel_lost(
            state, lost, f"lost: {names_of(lost)} was scattered to workers that were gone before they could tell"
        )


def on_data_received(state: Tables, event: DataReceived, source: str) -> None:
    """Data of a client has come to a worker. Where that client has told of it, or is to, there is nothing to do; else
    it has given that up, or is gone, and so is the data. (It is not believed in on this word: an order to forget it may
    be under way.)"""
    ws = state.workers.get(source)
    if ws is None:
        return
    for key in event.keys:
        ts = state.tasks.get(key)
        if ts is None or (ws not in ts.who_has and ts.processing_on is not ws):
            free_copy(state, source, key)


def _was_announced(state: Tables, ts: TaskState | None, cs: ClientState, number: int) -> bool:
    """Whether the client was to place the value by this scatter; from now on it is not."""
    announcement = None if ts is None else state.announced.get(ts)
    if announcement is None or (cs, number) not in announcement.places:
        return False
    del announcement.places[cs, number]
    return True


def _scattered_task(state: Tables, key: Key) -> TaskState:
    group = state.groups.group_of(key)
    ts = TaskState(key, None, state.default_policy, group, (0.0, state.generation, 0), "released")
    state.tasks[key] = ts
    group.n_tasks += 1
    group.n_alive += 1
    group.states["released"] += 1
    return ts


def _into_memory(state: Tables, ts: TaskState, holders: list[WorkerState], nbytes: int, cs: ClientState) -> None:
    unneeded: list[TaskState] = []
    before = ts.state
    if before != "memory":
        leave_state(state, ts, unneeded)
        if before == "erred" or before == "processing":
            set_state(state, ts, "released")
        set_state(state, ts, "memory")
    for ws in holders:
        add_replica(state, ts, ws)
    if nbytes >= 0:
        ts.group.nbytes_total += nbytes - max(0, ts.nbytes)
        set_nbytes(ts, nbytes)
    if before != "memory":
        for dependent in ts.dependents:
            if dependent.state == "waiting":
                dependent.n_waiting -= 1
                if not dependent.n_waiting:
                    state.ready.append(dependent)
            elif dependent.n_waiting:
                dependent.n_waiting -= 1  # it was sent ahead; its worker will ask for the value
        unwant(ts, state.fire_and_forget)
        for client in ts.who_wants:
            report_key(state, ts, client)
    else:
        report_key(state, ts, cs)
    release_unneeded(state, unneeded)
