"""Connections that come and go, nannies, and operators' wishes. Pure."""

from __future__ import annotations

from distributed.messages.nanny import WorkerProcessExited, WorkerProcessStarted
from distributed.messages.scheduler_to_client import ClusterRestarted
from distributed.messages.scheduler_to_worker import CloseWorkerOrder, StealRequest
from distributed.scheduler.state_machine.events import (
    Restart,
    SetResources,
    SetThreads,
    WorkerAway,
    WorkerJoined,
    WorkerLost,
)
from distributed.scheduler.state_machine.fleet import (
    go_away,
    join,
    lose,
    process_exited,
    remove,
    set_nthreads,
    set_status,
)
from distributed.scheduler.state_machine.graph_update import release_pin
from distributed.scheduler.state_machine.restrictions import has_resources
from distributed.scheduler.state_machine.tables import Tables
from distributed.scheduler.state_machine.transitions.release import release_unneeded, unwant


def on_worker_joined(state: Tables, event: WorkerJoined, source: str) -> None:
    join(state, event)


def on_worker_away(state: Tables, event: WorkerAway, source: str) -> None:
    ws = state.workers.get(event.address)
    if ws is not None:
        go_away(state, ws, event.cause)


def on_worker_lost(state: Tables, event: WorkerLost, source: str) -> None:
    ws = state.workers.get(event.address)
    if ws is not None:
        lose(state, ws, event.cause)


def on_worker_process_exited(state: Tables, event: WorkerProcessExited, source: str) -> None:
    process_exited(state, event)


def on_worker_process_started(state: Tables, event: WorkerProcessStarted, source: str) -> None:
    """The worker will register itself."""


def on_set_threads(state: Tables, event: SetThreads, source: str) -> None:
    ws = state.workers.get(event.address)
    if ws is not None:
        set_nthreads(state, ws, event.nthreads)


def on_set_resources(state: Tables, event: SetResources, source: str) -> None:
    ws = state.workers.get(event.address)
    if ws is not None:
        ws.resources.update(event.resources)
        for name in event.resources:
            ws.used_resources.setdefault(name, 0.0)
        set_status(state, ws, ws.status_name)
        # What the worker can never start now is asked back.
        for ts in ws.processing:
            if not has_resources(ws, ts.policy.resources):
                state.out.to_workers[ws.address].append(StealRequest(ts.key, ts.run_id, state.stimulus_id))


def on_restart(state: Tables, event: Restart, source: str) -> None:
    """Every task is cancelled and forgotten; every worker is told to start anew, and is out of the tables at once."""
    state.announced.clear()
    for cs in list(state.clients.values()):
        for submission in list(cs.pins):
            release_pin(state, cs, submission)
        tasks = list(cs.wants_what)
        for ts in tasks:
            unwant(ts, cs)
        release_unneeded(state, tasks)
        if not cs.mute:
            state.out.to_clients[cs.client_key].append(ClusterRestarted())
    for ws in list(state.workers.values()):
        alive = ws.alive
        remove(state, ws, event.reason, blame=False, expected=True)
        if alive:
            state.out.to_workers[ws.address].append(CloseWorkerOrder(event.reason, True))
