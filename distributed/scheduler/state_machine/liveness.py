"""Who is silent, and what follows from it. Pure.

A worker's event loop sends heartbeats. On a slow line they may come late, behind a long message, whose bytes count as
well (``WorkerSends``). When they stay away, its process may be stopped, a task may hold the interpreter
lock, the machine may be gone or the line dead: the silence itself does not tell. The nanny shares neither loop nor lock
with the worker; it looks at the process and *vouches* for it (``WorkerVouched``) while it lives and is not stopped.

============================= ================================================================== ===========
silence of the worker         and                                                                it is
============================= ================================================================== ===========
``suspect_s`` (5 s)           whatever is known                                                  suspect
``lost_s`` (15 s)             its nanny says that it stands still                                lost
``worker_grace_s`` (30 s)     its nanny is as silent: both are cut off                           lost
``lost_alone_s`` (60 s)       it has no nanny                                                    lost
``worker_ttl_s`` (300 s)      whatever is known                                                  lost
============================= ================================================================== ===========

A worker whose connection broke is *away*, and has ``worker_grace_s`` to come back (see ``fleet.py``).

A suspect gets no new tasks; what it has stays there. The tasks of a lost worker run elsewhere under new run ids, so
that nothing it still says counts; it is told to start anew, and reads that when it comes back.

Time in which this scheduler itself stood still counts for nobody's silence. Nor does every silence accuse a task: for
as long as makes a worker suspect the nanny must have seen that the process was not stopped and its loop did not move,
and that tasks were executed.
"""

from __future__ import annotations

from math import inf

from distributed.base.keys import Key
from distributed.messages.nanny import STOPPED, WorkerVouched
from distributed.messages.scheduler_to_worker import CloseWorkerOrder, PeerLost
from distributed.scheduler.state_machine.entities import Vouch, WorkerState
from distributed.scheduler.state_machine.events import WorkerBack, WorkerSends
from distributed.scheduler.state_machine.fleet import remove, set_status
from distributed.scheduler.state_machine.instructions import WorkerAnswered, WorkerSuspected
from distributed.scheduler.state_machine.tables import Tables

# Checks in the time after which a silent worker is suspect, and how late one may come before we are the ones who slept.
_CHECKS = 5
_LATE = 2.0

OUT_OF_TOUCH_S = 3.0
"""Longer than between two heartbeats, however many workers there are."""


def liveness_deadline(state: Tables) -> float | None:
    """When to look again; None: there is nobody to look at."""
    limits = _limits(state)
    if not limits or not state.workers:
        state.next_look = None
    elif state.next_look is None:
        state.next_look = state.now + min(limits) / _CHECKS
    return state.next_look


def _limits(state: Tables) -> list[float]:
    settings = state.settings
    limits = [settings.suspect_s, settings.lost_s, settings.lost_alone_s, settings.worker_ttl_s]
    return [limit for limit in limits if limit is not None]


def look(state: Tables) -> None:
    """Suspect the silent, give up the lost."""
    due = state.next_look
    if due is None or due > state.now:
        return
    interval = min(_limits(state)) / _CHECKS
    late = state.now - due
    state.next_look = state.now + interval
    if late > max(_LATE * interval, 0.5):
        _forgive(state, late)
    for ws in list(state.workers.values()):
        if ws in state.vanished or ws in state.away:
            continue
        why = _lost_because(state, ws)
        if why:
            _give_up(state, ws, why)
        elif ws.suspect_since is None and state.settings.suspect_s is not None:
            silence = state.now - ws.last_seen
            if silence > state.settings.suspect_s:
                _suspect(state, ws, silence)


def _forgive(state: Tables, late: float) -> None:
    """We stood still ourselves: what was sent to us meanwhile is yet to be read."""
    for ws in state.workers.values():
        ws.last_seen = min(state.now, ws.last_seen + late)  # some of what was sent may have been read already
        if ws.vouch is not None:
            ws.vouch.seen = min(state.now, ws.vouch.seen + late)
    for absence in state.away.values():
        if absence.deadline is not None:
            absence.deadline += late


def give_up_away(state: Tables) -> None:
    """The grace of workers whose connection broke is over."""
    for ws, absence in list(state.away.items()):
        if absence.deadline is not None and absence.deadline <= state.now:
            _give_up(state, ws, f"{absence.cause}; it has not come back within {state.now - absence.since:.3g} s")


def _lost_because(state: Tables, ws: WorkerState) -> str:
    settings = state.settings
    now = state.now
    silence = now - ws.last_seen
    ttl = settings.worker_ttl_s
    if ttl is not None and silence > ttl:
        return f"no heartbeat for {silence:.0f} s{_known(ws)}"
    limit = settings.lost_alone_s if ws.nanny is None else settings.lost_s
    if limit is None or silence <= limit:
        return ""
    vouch = ws.vouch
    if vouch is not None and now - vouch.seen <= limit:
        return ""
    grace = inf if settings.worker_grace_s is None else settings.worker_grace_s
    stands_still = vouch is not None and vouch.process_state in STOPPED
    heard = ws.last_seen if vouch is None else max(ws.last_seen, vouch.seen)
    if not stands_still and ws.nanny is not None and now - heard <= grace:  # a nanny that is heard says something
        return ""
    return f"no sign of life for {silence:.0f} s{_known(ws)}"


def _known(ws: WorkerState) -> str:
    """What the nanny has said of the process."""
    if ws.vouch is None:
        return ""
    if ws.vouch.process_state in STOPPED:
        return f" (its process is {ws.vouch.process_state})"
    keys = ", ".join([repr(key) for key in ws.vouch.keys[:3]])
    return f" (its process lives, but its event loop does not move{f', while it runs {keys}' if keys else ''})"


def silence_text(state: Tables, ws: WorkerState) -> str:
    """Why no new task goes to a suspect worker, or to one that is away; empty for others."""
    absence = state.away.get(ws)
    if absence is not None:
        return f"disconnected for {state.now - absence.since:.0f} s ({absence.cause}), and may come back"
    if ws.suspect_since is None:
        return ""
    return f"no heartbeat for {state.now - ws.last_seen:.0f} s{_known(ws)}"


def out_of_touch(state: Tables, ws: WorkerState) -> bool:
    """Whether the worker, as it seems, cannot be reached by anybody for now."""
    return ws in state.away or ws.suspect_since is not None or state.now - ws.last_seen > OUT_OF_TOUCH_S


def _suspect(state: Tables, ws: WorkerState, silence: float) -> None:
    ws.suspect_since = state.now
    set_status(state, ws, ws.status_name)
    state.out.instructions.append(WorkerSuspected(ws.address, str(ws.name), silence, _known(ws).strip()))


def _give_up(state: Tables, ws: WorkerState, why: str) -> None:
    remove(state, ws, why, blame=True)
    state.out.to_workers[ws.address].append(CloseWorkerOrder(why, True))
    # Whoever waits for its data waits on a line that may never break.
    news = PeerLost(ws.address, why)
    for other in state.workers.values():
        if other.alive:
            state.out.to_workers[other.address].append(news)
    for cs in state.clients.values():
        if not cs.mute:
            state.out.to_clients[cs.client_key].append(news)


def on_worker_vouched(state: Tables, event: WorkerVouched, source: str) -> None:
    """The nanny has looked at a process whose loop is silent."""
    ws = state.workers.get(event.worker)
    if ws is None or (ws.pid and event.pid and ws.pid != event.pid):
        return
    executing = frozenset(event.executing)
    keys: tuple[Key, ...] = tuple([ts.key for ts in ws.processing if ts.run_id in executing])
    if event.process_state not in STOPPED:
        seen = state.now
    else:
        seen = ws.vouch.seen if ws.vouch is not None else -inf
    holders = ws.vouch.holders if ws.vouch is not None else ()
    suspect_s = state.settings.suspect_s
    if keys and suspect_s is not None and event.process_state not in STOPPED and event.held_s >= suspect_s:
        holders = keys
    ws.vouch = Vouch(seen, event.process_state, keys, holders)


def on_worker_sends(state: Tables, event: WorkerSends, source: str) -> None:
    """A worker whose heartbeats wait behind something long is not silent."""
    ws = state.workers.get(event.address)
    if ws is not None:
        if ws.suspect_since is not None or ws.vouch is not None:
            answered(state, ws)
        ws.last_seen = state.now


def on_worker_back(state: Tables, event: WorkerBack, source: str) -> None:
    """What both ends have missed of one another follows."""
    ws = state.workers.get(event.address)
    if ws is None or not ws.alive:
        return
    was_away = state.away.pop(ws, None) is not None
    answered(state, ws)
    ws.last_seen = state.now
    if was_away:
        set_status(state, ws, ws.status_name)
        state.retire_again = True


def answered(state: Tables, ws: WorkerState) -> None:
    """A silent worker has spoken."""
    if ws.suspect_since is not None:
        silence = state.now - ws.last_seen
        holders = ws.vouch.holders if ws.vouch is not None else ()
        state.out.instructions.append(WorkerAnswered(ws.address, str(ws.name), silence, holders))
        ws.suspect_since = None
        set_status(state, ws, ws.status_name)
    ws.vouch = None
