"""Copies of values on workers: reports of them, and plans to make or move some. Pure."""

from __future__ import annotations

from distributed.base.keys import Key
from distributed.messages.client_to_scheduler import DataScattered
from distributed.messages.scheduler_to_worker import AcquireReplicas, HoldersChanged, RemoveReplicas, TaskNeed
from distributed.messages.worker_to_scheduler import MissingData, ReplicasAdded, ReplicasDropped, WhoHas
from distributed.scheduler.state_machine.entities import ClientState, Members, TaskState, WorkerState
from distributed.scheduler.state_machine.events import MoveReplicas
from distributed.scheduler.state_machine.liveness import out_of_touch
from distributed.scheduler.state_machine.reports import holder_addresses, names_of, report_key
from distributed.scheduler.state_machine.tables import Move, Tables, note, set_state
from distributed.scheduler.state_machine.transitions.cancel import cancel_lost
from distributed.scheduler.state_machine.transitions.lost import lose_values, remove_replica
from distributed.scheduler.state_machine.transitions.release import leave_state, release_unneeded, want


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
                state.out.free(source, key, state.context)
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
            state.out.free(source, key, state.context)
    if needs:
        state.out.to_workers[source].append(HoldersChanged(needs))


def on_data_scattered(state: Tables, event: DataScattered, source: str) -> None:
    """A client has put data on workers. What sits on workers that are gone by now is lost."""
    cs = state.clients.get(source)
    lost: list[TaskState] = []
    for replica in event.replicas:
        holders = [ws for address in replica.workers if (ws := state.workers.get(address)) is not None and ws.alive]
        ts = state.tasks.get(replica.key)
        if cs is None:
            for ws in holders:
                if ts is None:
                    state.out.free(ws.address, replica.key, state.context)
            continue
        if ts is None:
            ts = _scattered_task(state, replica.key)
        want(ts, cs)
        ts.type = replica.type_name or ts.type
        state.lost_data.pop(replica.key, None)
        if not holders and ts.state != "memory":
            lost.append(ts)
            continue
        if len(replica.workers) > 1:
            ts.make_rare().copies = len(replica.workers)
        _into_memory(state, ts, holders, replica.nbytes, cs)
    if lost:
        cancel_lost(
            state, lost, f"lost: {names_of(lost)} was scattered to workers that were gone before they could tell"
        )


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
        for client in ts.who_wants:
            report_key(state, ts, client)
    else:
        report_key(state, ts, cs)
    release_unneeded(state, unneeded)


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
    """Order copies to be dropped, never the last one."""
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
