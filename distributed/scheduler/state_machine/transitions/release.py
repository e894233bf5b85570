"""To released and to forgotten: giving up what is not needed. Pure."""

from __future__ import annotations

from distributed.scheduler.state_machine.entities import (
    NEEDING,
    NO_TASKS,
    NOBODY,
    ClientState,
    Members,
    TaskState,
    WorkerState,
)
from distributed.scheduler.state_machine.resources import give_back_resources
from distributed.scheduler.state_machine.tables import Tables, trace


def unassign(state: Tables, ts: TaskState, free: bool) -> WorkerState:
    """Take a processing task off its worker's account; ``free`` also tells the worker to forget it, which it does not
    before a run that has begun is over."""
    ws = ts.processing_on
    assert ws is not None
    if free and ws.held_slots < ws.nthreads and _has_begun(ts, ws):
        ws.held_slots += 1
        ws.held_since = state.now
    ts.processing_on = None
    charge = ws.processing.pop(ts)
    ws.occupancy = ws.occupancy - charge if ws.processing else 0.0
    if ws.long_running:
        ws.long_running.pop(ts, None)
    if ws.executing:
        ws.executing.pop(ts, None)
    if ts.policy.resources is not None:
        give_back_resources(ts, ws)
    if state.steals:
        state.steals.pop(ts, None)
    state.touched[ws] = None
    if free and ws.alive:
        state.out.free(ws.address, ts.key, state.context)
    return ws


def _has_begun(ts: TaskState, ws: WorkerState) -> bool:
    """Whether the task holds a slot of its worker, as far as one knows here; the next heartbeat knows."""
    if ts.n_waiting or ts in ws.long_running:
        return False
    return ts in ws.executing or len(ws.processing) + ws.held_slots <= ws.nthreads


def leave_state(state: Tables, ts: TaskState, unneeded: list[TaskState], free: bool = True) -> None:
    """Undo what the task's present state means, before it gets another. Dependencies that it was the last to need are
    appended to ``unneeded``."""
    start = ts.state
    if start in NEEDING:
        if start == "processing":
            unassign(state, ts, free)
        elif start == "queued":
            state.queued.remove(ts)
        elif start == "no-worker":
            state.unrunnable.drop(ts)
        elif state.delayed:
            state.delayed.pop(ts, None)
        ts.n_waiting = 0
        stop_needing(ts, unneeded)
    elif start == "memory":
        drop_value(state, ts)
    elif start == "erred" and ts.rare is not None:
        ts.rare.error = None
        ts.rare.blame = None


def stop_needing(ts: TaskState, unneeded: list[TaskState]) -> None:
    """The task no longer needs its dependencies."""
    for dep in ts.dependencies:
        dep.n_waiters -= 1
        if not dep.n_waiters and not dep.who_wants:
            unneeded.append(dep)


def drop_value(state: Tables, ts: TaskState) -> None:
    """Forget all copies of a task in memory, and tell their holders."""
    nbytes = ts.nbytes if ts.nbytes > 0 else 0
    for ws in ts.who_has:
        del ws.has_what[ts]
        ws.nbytes -= nbytes
        if ws.actors:
            ws.actors.pop(ts, None)
        if ws.alive:
            state.out.free(ws.address, ts.key, state.context)
    if len(ts.who_has) > 1:
        state.replicated.pop(ts, None)
    ts.who_has = NOBODY
    if state.moves:
        state.moves.pop(ts, None)
    if ts.rare is not None:
        ts.rare.unshippable = None
        ts.rare.copies = 1
    if state.retirements:
        state.retire_again = True


def release_unneeded(state: Tables, unneeded: list[TaskState]) -> None:
    """Release each task that nobody needs, and forget it when no known task depends on it; then the same for its
    dependencies."""
    groups = state.groups
    log = state.log
    record = state.record
    while unneeded:
        ts = unneeded.pop()
        if ts.who_wants or ts.n_waiters:
            continue
        start = ts.state
        if start == "forgotten":
            continue
        if start != "released" and not (start == "erred" and ts.dependents):
            if start == "memory":
                drop_value(state, ts)
            else:
                leave_state(state, ts, unneeded)
            states = ts.group.states
            states[start] -= 1
            states["released"] += 1
            ts.state = "released"
            if record:
                trace(state, ts, start, "released")
            elif log is not None:
                log.append((ts.key, start, "released", state.context))
        if ts.dependents or ts.state != "released":
            continue
        for dep in ts.dependencies:
            dependents = dep.dependents
            del dependents[ts]
            if not dependents and not dep.who_wants and not dep.n_waiters:
                unneeded.append(dep)
        group = ts.group
        states = group.states
        states["released"] -= 1
        states["forgotten"] += 1
        ts.state = "forgotten"
        ts.dependents = NO_TASKS
        del state.tasks[ts.key]
        group.n_alive -= 1
        if not group.n_alive:
            groups.drop(group)
        if record:
            trace(state, ts, "released", "forgotten")
        elif log is not None:
            log.append((ts.key, "released", "forgotten", state.context))


def want(ts: TaskState, cs: ClientState) -> None:
    """A client begins to want a task."""
    wanters = ts.who_wants
    if not wanters:
        ts.who_wants = cs.as_wanter
    elif cs not in wanters:
        ts.who_wants = Members((*wanters, cs))
    cs.wants_what[ts] = None


def unwant(ts: TaskState, cs: ClientState) -> None:
    """A client no longer wants a task."""
    cs.wants_what.pop(ts, None)
    wanters = ts.who_wants
    if len(wanters) == 1:
        if wanters[0] is cs:
            ts.who_wants = NOBODY
    elif wanters:
        ts.who_wants = Members([c for c in wanters if c is not cs])
