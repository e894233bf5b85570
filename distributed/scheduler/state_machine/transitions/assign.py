"""waiting, queued, no-worker -> processing, and the ways back. Pure."""

from __future__ import annotations

from distributed.messages.scheduler_to_worker import ComputeTask, DefineFunction, SharedNeeds, TaskNeed
from distributed.scheduler.state_machine.entities import TaskState, WorkerState
from distributed.scheduler.state_machine.reports import holder_addresses
from distributed.scheduler.state_machine.resources import take_resources
from distributed.scheduler.state_machine.tables import Tables, set_state, trace
from distributed.scheduler.state_machine.transitions.release import unassign


def assign(state: Tables, ts: TaskState, ws: WorkerState, stimulus_id: str) -> None:
    """Send a task to a worker: one that is ready, or that can follow its inputs there (see ``ahead.py``).

    The caller has taken it out of the queue or of ``unrunnable``.
    """
    group = ts.group
    prefix = group.prefix
    expected = prefix.expected_s
    run_id = state.run_counter + 1
    state.run_counter = run_id
    ts.run_id = run_id
    ts.processing_on = ws
    ws.processing[ts] = expected
    ws.occupancy += expected

    origin = ts.state
    states = group.states
    states[origin] -= 1
    states["processing"] += 1
    ts.state = "processing"
    if state.record:
        trace(state, ts, origin, "processing")
    elif state.log is not None:
        state.log.append((ts.key, origin, "processing", state.context))

    spec = ts.run_spec
    assert spec is not None
    box = state.out.to_workers[ws.address]
    function = spec.function
    if function and function not in ws.functions:
        blob = state.functions.get(function)
        if blob is not None:
            ws.functions.add(function)
            box.append(DefineFunction(blob))
    policy = ts.policy
    average = prefix.duration_average
    if policy is state.default_policy and not ts.dependencies:  # nor is it an alias
        box.append(
            ComputeTask(
                ts.key,
                run_id,
                ts.priority,
                function,
                spec.payload,
                (),
                average,
                bool(ts.who_wants),
                None,
                None,
                False,
                False,
                None,
                stimulus_id,
            )
        )
        return
    if policy.resources is not None:
        take_resources(ts, ws)
    dependencies = ts.dependencies
    shared = len(dependencies) >= state.settings.shared_from
    if shared:
        told = state.told_needs
        if told.get(ws) is not dependencies:
            box.append(SharedNeeds(needs_of(state, ts, ws)))
            told[ws] = dependencies
    box.append(
        ComputeTask(
            ts.key,
            run_id,
            ts.priority,
            function,
            spec.payload,
            needs_of(state, ts, ws) if dependencies and not shared else (),
            average,
            bool(ts.who_wants),
            policy.resources,
            policy.executor,
            policy.actor,
            spec.alias,
            policy.annotations,
            stimulus_id,
            shared,
            policy.rules,
        )
    )


def needs_of(state: Tables, ts: TaskState, ws: WorkerState) -> tuple[TaskNeed, ...]:
    """The task's dependencies in the order of its spec, with their holders unless the worker is one."""
    dependencies = ts.dependencies
    spec = ts.run_spec
    if spec is not None and len(spec.dependencies) != len(dependencies):
        # A dependency is named twice: the payload counts places.
        dependencies = tuple([state.tasks[key] for key in spec.dependencies])
    return tuple(
        [TaskNeed(dep.key, () if ws in dep.who_has else holder_addresses(dep), dep.nbytes) for dep in dependencies]
    )


def requeue(state: Tables, ts: TaskState, free: bool) -> None:
    """processing -> released -> waiting: it has to run again, here or elsewhere."""
    unassign(state, ts, free)
    back_to_waiting(state, ts)
    recall(state, ts)


def recall(state: Tables, ts: TaskState) -> None:
    """The task is not computed where tasks that need it were sent ahead: these come back, and what was to follow
    them."""
    stack = [ts]
    while stack:
        for dependent in stack.pop().dependents:
            if dependent.n_waiting and dependent.state == "processing":
                unassign(state, dependent, True)
                back_to_waiting(state, dependent)
                stack.append(dependent)


def back_to_waiting(state: Tables, ts: TaskState, ready: bool = True) -> None:
    """A task that was ready (queued, no-worker, processing) waits again, perhaps only for the placing beat (with
    ``ready``)."""
    if ts.state == "queued":
        state.queued.remove(ts)
    elif ts.state == "no-worker":
        state.unrunnable.drop(ts)
    set_state(state, ts, "released")
    ts.n_waiting = sum([dep.state != "memory" for dep in ts.dependencies]) + (ts in state.announced)
    set_state(state, ts, "waiting")
    if not ts.n_waiting and ready:
        state.ready.append(ts)
