"""Copies of values on workers: reports of them, and plans to make or move some. Pure."""

from __future__ import annotations

from distributed.messages.scheduler_to_worker import AcquireReplicas, HoldersChanged, RemoveReplicas, TaskNeed
from distributed.messages.worker_to_scheduler import MissingData, ReplicasAdded, ReplicasDropped, WhoHas
from distributed.scheduler.state_machine.entities import Members, TaskState, WorkerState
from distributed.scheduler.state_machine.events import MoveReplicas
from distributed.scheduler.state_machine.liveness import out_of_touch
from distributed.scheduler.state_machine.reports import holder_addresses
from distributed.scheduler.state_machine.tables import Move, Tables, note
from distributed.scheduler.state_machine.transitions.announced import free_copy
from distributed.scheduler.state_machine.transitions.lost import lose_values, remove_replica


def add_replica(state: Tables, ts: TaskState, ws: WorkerState) -> None:
    """The worker has a copy of a task in memory."""
    if ws in ts.who_has:
        return
    ts.who_has = Members((*ts.who_has, ws))
    if len(ts.who_has) == 2:
        state.replicated[ts] = None
    ws.has_what[ts] = None
    if ts.nbytes > 0:
        ws.nbytes += ts.nbytes


def set_nbytes(ts: TaskState, nbytes: int) -> None:
    """The size of a value is known now, or known better."""
    difference = max(0, nbytes) - max(0, ts.nbytes)
    for ws in ts.who_has:
        ws.nbytes += difference
    ts.nbytes = nbytes


def on_replicas_added(state: Tables, event: ReplicasAdded, source: str) -> None:
    """Copies have arrived; those that nobody needs any more are dropped again."""
    ws = state.workers.get(source)
    if ws is None:
        return
    for key, nbytes in event.keys:
        ts = state.tasks.get(key)
        if ts is None or ts.state != "memory":
            if ts is None or ts.processing_on is not ws:
                free_copy(state, source, key)
            continue
        add_replica(state, ts, ws)
        if ts.nbytes < 0 <= nbytes:
            set_nbytes(ts, nbytes)
        if state.moves:
            _arrived(state, ts, ws)
    if state.retirements:
        state.retire_again = True


def on_replicas_dropped(state: Tables, event: ReplicasDropped, source: str) -> None:
    """Copies are gone."""
    ws = state.workers.get(source)
    if ws is None:
        return
    tasks = [ts for key in event.keys if (ts := state.tasks.get(key)) is not None]
    lose_values(state, [ts for ts in tasks if remove_replica(state, ts, ws)], source, "dropped there")
    if event.as_ordered:  # that was an older copy: one that was asked for since then is still to come
        state.retire_again = True
        return
    for ts in tasks:
        move = state.moves.get(ts)
        if move is not None and move.to.pop(ws, ws) is None and not move.to:
            del state.moves[ts]  # the last copy under way will not come: the others stay where they are
    for retirement in state.retirements.values():
        for ts in tasks:
            if retirement.sent.get(ts) is ws:  # the copy that was asked for will not come: ask again
                del retirement.sent[ts]
                retirement.failed[ts] = retirement.failed.get(ts, 0) + 1
    state.retire_again = True


def on_missing_data(state: Tables, event: MissingData, source: str) -> None:
    """A worker could not get a value from a holder: strike the holder off, and tell it to forget what it may have. The
    only copy of what cannot be computed again stays where it is when just nobody could reach it, and so does that of a
    holder which is cut off from everybody and may come back: the worker asks again."""
    ts = state.tasks.get(event.key)
    holder = state.workers.get(event.holder)
    if ts is None or holder is None or ts.state != "memory" or holder not in ts.who_has:
        return
    if ts in state.announced:  # it may be there by now: the worker asks again
        return
    note(state, ts.key, "missing", event.holder)
    may_come_back = ts.run_spec is None or out_of_touch(state, holder)
    if event.unreached and may_come_back and len(ts.who_has) == 1 and holder.alive:
        return
    last = remove_replica(state, ts, holder)
    if holder.alive:
        state.out.free(holder.address, ts.key, state.context)
    if last:
        lose_values(state, [ts], event.holder, event.reason or "the value was not there")
    state.retire_again = True


def on_who_has(state: Tables, event: WhoHas, source: str) -> None:
    """A worker has lost sight of values that it needs."""
    ws = state.workers.get(source)
    if ws is None:
        return
    needs: list[TaskNeed] = []
    for key in event.keys:
        ts = state.tasks.get(key)
        if ts is not None and ts.state == "memory":
            needs.append(TaskNeed(key, holder_addresses(ts), ts.nbytes))
        elif ts is None or ts.processing_on is not ws:
            # Not for a key that is computed there now: the order would stop that run.
            free_copy(state, source, key)
    if needs:
        state.out.to_workers[source].append(HoldersChanged(needs))


def on_move_replicas(state: Tables, event: MoveReplicas, source: str) -> None:
    """Copy a key to workers, and drop other copies once these have arrived."""
    ts = state.tasks.get(event.key)
    if ts is None or ts.state != "memory":
        return
    if event.copies > 1 or (event.copies and ts.rare is not None):
        ts.make_rare().copies = event.copies
    to = {ws: None for a in event.to if (ws := state.workers.get(a)) is not None and ws.alive and ws not in ts.who_has}
    drop = tuple([ws for a in event.drop if (ws := state.workers.get(a)) is not None])
    for ws in to:
        ask_to_fetch(state, ts, ws)
    if to:
        state.moves[ts] = Move(to, drop)
    else:
        drop_replicas(state, ts, drop)


def ask_to_fetch(state: Tables, ts: TaskState, ws: WorkerState) -> None:
    """Order one copy."""
    need = TaskNeed(ts.key, holder_addresses(ts), ts.nbytes)
    box = state.out.to_workers[ws.address]
    if box and type(box[-1]) is AcquireReplicas:
        box[-1].needs.append(need)
    else:
        box.append(AcquireReplicas([need], state.stimulus_id))


def drop_replicas(state: Tables, ts: TaskState, holders: tuple[WorkerState, ...]) -> None:
    """Order copies to be dropped, never the last one, and none while a client puts new ones there."""
    if ts in state.announced:
        return
    for ws in holders:
        if ws in ts.who_has and len(ts.who_has) > 1:
            remove_replica(state, ts, ws)
            state.out.to_workers[ws.address].append(RemoveReplicas([ts.key], state.stimulus_id))


def _arrived(state: Tables, ts: TaskState, ws: WorkerState) -> None:
    move = state.moves.get(ts)
    if move is not None:
        move.to.pop(ws, None)
        if not move.to:
            del state.moves[ts]
            drop_replicas(state, ts, move.drop)
