"""processing -> memory. Pure."""

from __future__ import annotations

from distributed.messages.scheduler_to_client import KeyInMemory
from distributed.messages.worker_to_scheduler import TaskFinished
from distributed.scheduler.state_machine.entities import TaskState, WorkerState
from distributed.scheduler.state_machine.tables import Tables, trace
from distributed.scheduler.state_machine.transitions.release import release_unneeded, unassign, unwant


def finish(state: Tables, ts: TaskState, ws: WorkerState, event: TaskFinished) -> None:
    """The worker has computed the task: tell who wants it, wake who waits for it, release what only it needed."""
    if ts.policy is state.default_policy and not ws.long_running and not ws.executing and not state.steals:
        # What ``unassign`` does, without what cannot be the case.
        ts.processing_on = None
        charge = ws.processing.pop(ts)
        ws.occupancy = ws.occupancy - charge if ws.processing else 0.0
        state.touched[ws] = None
    else:
        unassign(state, ts, False)
    group = ts.group
    nbytes = event.nbytes
    duration = event.duration_s
    group.duration += duration
    group.nbytes_total += nbytes
    if event.started:
        if not group.start or event.started < group.start:
            group.start = event.started
        stop = event.started + duration
        if stop > group.stop:
            group.stop = stop
    settings = state.settings
    prefix = group.prefix
    average = prefix.duration_average
    if average >= 0:
        average += settings.duration_weight * (duration - average)
        prefix.duration_average = average
        prefix.expected_s = average if average > settings.min_duration_s else settings.min_duration_s
    else:
        prefix.add_duration(duration, settings.duration_weight, settings.min_duration_s)

    ts.nbytes = nbytes
    type_name = event.type_name
    if type_name:
        ts.type = type_name
        if type_name not in group.types:
            group.types.add(type_name)
    ts.who_has = ws.as_holder
    ws.has_what[ts] = None
    if nbytes > 0:
        ws.nbytes += nbytes
    if event.unshippable is not None or event.metadata is not None or ts.rare is not None:
        rare = ts.make_rare()
        rare.unshippable = event.unshippable
        rare.metadata = event.metadata
        rare.avoid = None
    if ts.policy.actor:
        ws.actors[ts] = None

    states = group.states
    states["processing"] -= 1
    states["memory"] += 1
    ts.state = "memory"
    if state.record:
        trace(state, ts, "processing", "memory")
    elif state.log is not None:
        state.log.append((ts.key, "processing", "memory", state.context))

    for dependent in ts.dependents:
        if dependent.state == "waiting":
            n = dependent.n_waiting - 1
            dependent.n_waiting = n
            if not n:
                state.ready.append(dependent)
        elif dependent.n_waiting:
            dependent.n_waiting -= 1  # it was sent ahead

    if ts.who_wants:
        message = KeyInMemory(ts.key, ts.type, event.inline, ws.addresses, nbytes, event.unshippable)
        to_clients = state.out.to_clients
        for cs in ts.who_wants:
            if not cs.mute:
                to_clients[cs.client_key].append(message)
            elif cs is state.fire_and_forget:
                unwant(ts, cs)
    if ts.dependencies:
        unneeded: list[TaskState] = []
        for dep in ts.dependencies:
            dep.n_waiters -= 1
            if not dep.n_waiters and not dep.who_wants:
                unneeded.append(dep)
        if not ts.n_waiters and not ts.who_wants:
            unneeded.append(ts)
        if unneeded:
            release_unneeded(state, unneeded)
    elif not ts.n_waiters and not ts.who_wants:
        release_unneeded(state, [ts])
    if state.retirements:
        state.retire_again = True
