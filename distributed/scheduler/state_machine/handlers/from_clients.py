"""Events of clients. Pure."""

from __future__ import annotations

from distributed.base.keys import Key
from distributed.messages.client_to_scheduler import (
    CancelKeys,
    ClientClosing,
    ClientHeartbeat,
    FireAndForget,
    ReleaseKeys,
    RetryKeys,
    UpdateGraph,
    WantKeys,
)
from distributed.messages.scheduler_to_client import KeysCancelled
from distributed.messages.scheduler_to_worker import StopRuns
from distributed.scheduler.state_machine.entities import NOBODY, ClientState, Members, TaskState, WorkerState
from distributed.scheduler.state_machine.events import ClientJoined, ClientLeft, ClientLost
from distributed.scheduler.state_machine.graph_update import release_pin, update_graph
from distributed.scheduler.state_machine.instructions import ClientRemoved
from distributed.scheduler.state_machine.reports import report_cancelled, report_key
from distributed.scheduler.state_machine.scattered import call_off_all
from distributed.scheduler.state_machine.tables import Absence, Tables
from distributed.scheduler.state_machine.transitions.cancel import cancel_by_client
from distributed.scheduler.state_machine.transitions.fail import revive
from distributed.scheduler.state_machine.transitions.release import release_unneeded, unwant, want
from distributed.scheduler.state_machine.transitions.start import start

# Functions that no client vouches for any more are dropped when so many have come together (or no task is left).
MAX_ORPHANS = 1000


def on_client_joined(state: Tables, event: ClientJoined, source: str) -> None:
    cs = state.clients.get(event.client)
    if cs is None:
        state.clients[event.client] = ClientState(event.client, state.now, event.mute)
        state.n_clients_seen += not event.mute
    else:
        state.absent.pop(cs, None)


def on_client_lost(state: Tables, event: ClientLost, source: str) -> None:
    """What it wants stays, until it is back or the grace is over."""
    cs = state.clients.get(event.client)
    if cs is None or cs.mute or cs in state.absent:
        return
    grace = state.settings.client_grace_s
    if grace is not None and grace <= 0:
        remove_client(state, cs, event.cause, expected=False)
    else:
        state.absent[cs] = Absence(event.cause, state.now, None if grace is None else state.now + grace)


def on_client_left(state: Tables, event: ClientLeft, source: str) -> None:
    cs = state.clients.get(event.client)
    if cs is not None:
        remove_client(state, cs, event.cause, event.expected)


def on_client_closing(state: Tables, event: ClientClosing, source: str) -> None:
    cs = state.clients.get(source)
    if cs is not None:
        remove_client(state, cs, "it has closed", expected=True)


def remove_client(state: Tables, cs: ClientState, cause: str, expected: bool) -> None:
    """Gone for good: release what only it wants."""
    if cs is state.fire_and_forget:
        return
    state.absent.pop(cs, None)
    name = cs.client_key
    for submission in list(cs.pins):
        release_pin(state, cs, submission)
    tasks = list(cs.wants_what)
    for ts in tasks:
        unwant(ts, cs)
    if state.announced:
        call_off_all(state, tasks, cs)
    tasks.reverse()
    release_unneeded(state, tasks)
    del state.clients[name]
    state.out.to_clients.pop(name, None)
    if not cs.mute:
        state.out.instructions.append(ClientRemoved(name, cause, expected))
    state.orphan_functions.update(dict.fromkeys(sorted(cs.functions)))
    if len(state.orphan_functions) > MAX_ORPHANS or not state.tasks:
        _drop_orphan_functions(state)


def _drop_orphan_functions(state: Tables) -> None:
    used = {ts.run_spec.function for ts in state.tasks.values() if ts.run_spec is not None}
    for cs in state.clients.values():
        used |= cs.functions
    for digest in state.orphan_functions:
        if digest not in used:
            state.functions.pop(digest, None)
    state.orphan_functions = {}


def on_update_graph(state: Tables, event: UpdateGraph, source: str) -> None:
    cs = state.clients.get(source)
    if cs is not None:
        update_graph(state, event, cs)


def on_want_keys(state: Tables, event: WantKeys, source: str) -> None:
    """Futures for tasks that exist; for others the client is told that they are lost."""
    cs = state.clients.get(source)
    if cs is None:
        return
    unknown: list[Key] = []
    to_start: list[TaskState] = []
    for key in event.keys:
        ts = state.tasks.get(key)
        if ts is None:
            unknown.append(key)
            continue
        want(ts, cs)
        report_key(state, ts, cs)
        if ts.state == "released":
            to_start.append(ts)
    if unknown and not cs.mute:
        state.out.to_clients[source].append(KeysCancelled(unknown, "lost"))
    start(state, to_start)


def on_release_keys(state: Tables, event: ReleaseKeys, source: str) -> None:
    cs = state.clients.get(source)
    if cs is None:
        return
    tasks = state.tasks
    released: list[TaskState] = []
    wants_what = cs.wants_what
    for key in event.keys:
        ts = tasks.get(key)
        if ts is not None and ts in wants_what:
            del wants_what[ts]
            if len(ts.who_wants) == 1:
                ts.who_wants = NOBODY
                released.append(ts)
            else:
                ts.who_wants = Members([c for c in ts.who_wants if c is not cs])
    if state.announced:
        given_up = [ts for key in event.keys if (ts := tasks.get(key)) is not None and ts not in wants_what]
        call_off_all(state, given_up, cs)
    released.reverse()
    release_unneeded(state, released)


def on_cancel_keys(state: Tables, event: CancelKeys, source: str) -> None:
    """The client itself is told of dependents only: the futures of what it names are cancelled already, and an echo
    would hit those of the same keys that it submits meanwhile."""
    cs = state.clients.get(source)
    tasks = [ts for key in event.keys if (ts := state.tasks.get(key)) is not None]
    told: dict[ClientState, list[Key]] = {}
    closure = cancel_by_client(state, tasks, cs, event.force, told)
    if cs in told:
        named = frozenset(event.keys)
        told[cs] = [key for key in told[cs] if key not in named]
    report_cancelled(state, told, event.reason, event.msg)
    if state.announced:
        for client in told:
            call_off_all(state, [ts for ts in closure if client not in ts.who_wants], client)
    assigned = [(ts, ts.processing_on, ts.run_id) for ts in closure if ts.processing_on is not None]
    release_unneeded(state, closure)
    _stop_runs(state, assigned, event.reason)


def _stop_runs(state: Tables, assigned: list[tuple[TaskState, WorkerState, int]], reason: str) -> None:
    """What was only released may run to its end; what was cancelled is to end now."""
    runs: dict[str, list[tuple[Key, int]]] = {}
    for ts, ws, run_id in assigned:
        if ts.processing_on is None and ws.alive:
            runs.setdefault(ws.address, []).append((ts.key, run_id))
    for address, stopped in runs.items():
        state.out.to_workers[address].append(StopRuns(stopped, reason))


def on_retry_keys(state: Tables, event: RetryKeys, source: str) -> None:
    tasks = [ts for key in event.keys if (ts := state.tasks.get(key)) is not None]
    start(state, revive(state, tasks)[::-1])


def on_fire_and_forget(state: Tables, event: FireAndForget, source: str) -> None:
    """The scheduler itself wants these until they are done."""
    to_start: list[TaskState] = []
    for key in event.keys:
        ts = state.tasks.get(key)
        if ts is not None and ts.state not in ("memory", "erred"):
            want(ts, state.fire_and_forget)
            to_start.append(ts)
    start(state, to_start)


def on_client_heartbeat(state: Tables, event: ClientHeartbeat, source: str) -> None:
    cs = state.clients.get(source)
    if cs is not None:
        cs.last_seen = state.now
