"""A client's ``UpdateGraph``: new tasks get their records, edges and wanters, and what is needed is started. Pure.

The loop over tasks is the hottest of a submission; it does by hand what small functions do elsewhere.
"""

from __future__ import annotations

from distributed.base.keys import Key
from distributed.messages.client_to_scheduler import TaskSpec, UpdateGraph
from distributed.messages.payload import ErrorInfo
from distributed.messages.scheduler_to_client import KeyErred
from distributed.scheduler.state_machine.entities import ClientState, Members, Policy, TaskState
from distributed.scheduler.state_machine.instructions import LogWarning
from distributed.scheduler.state_machine.priority import choose_generation
from distributed.scheduler.state_machine.reports import report_cancelled, report_key
from distributed.scheduler.state_machine.tables import Tables, trace
from distributed.scheduler.state_machine.transitions.cancel import cancel_lost
from distributed.scheduler.state_machine.transitions.release import release_unneeded, want
from distributed.scheduler.state_machine.transitions.start import start


def update_graph(state: Tables, event: UpdateGraph, cs: ClientState) -> None:
    """Add the tasks of one part of a submission."""
    _note_functions(state, event, cs)
    _hand_out(event)
    policies = [Policy(options) for options in event.options] or [state.default_policy]
    generation = choose_generation(state, cs, event)
    wanted = None if event.wanted is None else frozenset(event.wanted)
    pin = _pin(cs, event) if wanted is not None else None

    fresh, old = _add_tasks(state, event, cs, policies, generation, wanted, pin)
    lost = _link(state, fresh) if fresh else []
    to_start = [ts for ts in old if ts.state == "released"]
    if wanted is not None:
        to_start.extend([ts for ts in fresh if ts.who_wants])
        unknown: list[Key] = []
        for key in event.wanted or ():
            # Wanted, and sent in an earlier part or long ago.
            known = state.tasks.get(key)
            if known is None:
                unknown.append(key)
            elif cs not in known.who_wants:
                _want_known(state, known, cs, to_start)
        if unknown and event.last:
            report_cancelled(state, {cs: unknown}, "lost")
    else:
        to_start.extend(fresh)
    to_start.reverse()
    start(state, to_start)
    if lost:
        # After the start, so that all that needs them is known to wait.
        reason = _lost_reason(state, lost)
        for ts in lost:
            # Its recipe is of no use. (It stays known if something that has failed already depends on it.)
            ts.run_spec = None
        cancel_lost(state, lost, reason)
    if wanted is not None:
        release_unneeded(state, [ts for ts in fresh if not ts.who_wants and not ts.n_waiters])
    if event.last and event.submission in cs.pins:
        release_pin(state, cs, event.submission)


def _note_functions(state: Tables, event: UpdateGraph, cs: ClientState) -> None:
    for blob in event.functions:
        state.functions.setdefault(blob.digest, blob)
        cs.functions.add(blob.digest)


def refuse_graph(state: Tables, event: UpdateGraph, cs: ClientState, why: str) -> None:
    """No more comes of this part of a submission, or nothing: the client's futures fail, those of tasks that are known
    already too."""
    _note_functions(state, event, cs)  # which are sent once
    if not cs.mute:
        keys = dict.fromkeys([spec.key for spec in event.tasks])
        if event.wanted is not None:
            keys = dict.fromkeys(
                [key for key in event.wanted if key in keys or (event.last and key not in state.tasks)]
            )
        error = ErrorInfo("RuntimeError", f"the scheduler could not take in what was submitted: {why}")
        state.out.to_clients[cs.client_key].extend([KeyErred(key, error) for key in keys])
    if event.last and event.submission in cs.pins:
        release_pin(state, cs, event.submission)


def _hand_out(event: UpdateGraph) -> None:
    """Give the tasks the dependencies that stand once for all."""
    tasks = event.tasks
    for shared in event.shared:
        for place in shared.tasks:
            if place >= len(tasks):
                raise ValueError(f"dependencies are for task number {place}, of {len(tasks)} that came")
            tasks[place].dependencies = shared.keys


def _add_tasks(
    state: Tables,
    event: UpdateGraph,
    cs: ClientState,
    policies: list[Policy],
    generation: float,
    wanted: frozenset[Key] | None,
    pin: ClientState | None,
) -> tuple[list[TaskState], list[TaskState]]:
    """Make the records; a task that is wanted and has no dependencies is ready at once.

    Returns the new tasks that are still to be linked or started, and the known ones that are wanted now.
    """
    tasks = state.tasks
    group_of = state.groups.group_of
    record = state.record
    log = state.log
    context = state.context
    ready = state.ready
    wants_what = cs.wants_what
    as_wanter = cs.as_wanter
    rank = event.first_rank - 1
    fresh: list[TaskState] = []
    old: list[TaskState] = []
    group = None
    head = ""
    length = 0
    for spec in event.tasks:
        rank += 1
        key = spec.key
        known = tasks.get(key)
        if known is not None:
            _resubmit(state, known, spec, fresh)
            if wanted is None or key in wanted:
                _want_known(state, known, cs, old)
            elif pin is not None:
                _want_known(state, known, pin, old)
            continue
        # Neighbours are mostly of one collection: ("x-<token>", i) with the very same first item.
        if type(key) is tuple and group is not None and length and key[0] == head:
            pass
        else:
            group = group_of(key)
            length = 0
            if type(key) is tuple and len(key) > 1 and type(key[0]) is str:
                head = key[0]
                length = 1
        try:
            policy = policies[spec.options]
        except IndexError:  # no client of ours says that; half a graph in the tables would be worse
            policy = state.default_policy
        plain = wanted is None and not spec.dependencies
        ts = TaskState(
            key, spec, policy, group, (policy.negative_priority, generation, rank), "waiting" if plain else "released"
        )
        tasks[key] = ts
        group.n_tasks += 1
        group.n_alive += 1
        if plain:
            group.states["waiting"] += 1
            ts.who_wants = as_wanter
            wants_what[ts] = None
            ready.append(ts)
            if record:
                trace(state, ts, "released", "waiting")
            elif log is not None:
                log.append((key, "released", "waiting", context))
            continue
        group.states["released"] += 1
        if wanted is None or key in wanted:
            ts.who_wants = as_wanter
            wants_what[ts] = None
        elif pin is not None:
            want(ts, pin)
        fresh.append(ts)
    return fresh, old


def _link(state: Tables, fresh: list[TaskState]) -> list[TaskState]:
    """Make the edges of new tasks; returns those with a dependency that nobody knows."""
    tasks = state.tasks
    lost: list[TaskState] = []
    # The records of dependencies that several tasks share, by the identity of their keys.
    shared: dict[int, Members] = {}
    shared_from = state.settings.shared_from
    for ts in fresh:
        spec = ts.run_spec
        assert spec is not None
        keys = spec.dependencies
        if not keys:
            continue
        if len(keys) >= shared_from:
            known = shared.get(id(keys))
            if known is not None and ts not in known:
                for dep in known:
                    dep.dependents[ts] = None
                ts.group.dependencies.update(dict.fromkeys([dep.group for dep in known]))
                ts.dependencies = known
                continue
        group_dependencies = ts.group.dependencies
        dependencies: list[TaskState] = []
        for key in keys:
            dep = tasks.get(key)
            if dep is None or dep is ts:
                if ts not in lost:
                    lost.append(ts)
                continue
            dependents = dep.dependents
            if not dependents:
                dep.dependents = {ts: None}
            elif ts in dependents:
                continue
            else:
                dependents[ts] = None
            dependencies.append(dep)
            group_dependencies[dep.group] = None
        ts.dependencies = Members(dependencies)
        if len(keys) >= shared_from and len(dependencies) == len(keys):
            shared[id(keys)] = ts.dependencies
    return lost


def _lost_reason(state: Tables, lost: list[TaskState]) -> str:
    names: dict[Key, None] = {}
    for ts in lost:
        if ts.run_spec is not None:
            names.update({key: None for key in ts.run_spec.dependencies if key not in state.tasks or key == ts.key})
    for key in names:
        if key in state.lost_data:
            return state.lost_data[key]
    listed = ", ".join([repr(key) for key in list(names)[:5]]) + (", ..." if len(names) > 5 else "")
    return f"lost dependencies: {listed}"


def _resubmit(state: Tables, ts: TaskState, spec: TaskSpec, fresh: list[TaskState]) -> None:
    """A known key comes again: what exists stays. A task without a recipe gets this one for the case of loss."""
    if ts.run_spec is None:
        if not spec.dependencies:
            ts.run_spec = spec
        return
    if ts.run_spec.dependencies != spec.dependencies:
        state.out.instructions.append(
            LogWarning(
                f"The key {ts.key!r} was submitted again with other dependencies ({list(spec.dependencies)[:5]} "
                f"instead of {list(ts.run_spec.dependencies)[:5]}). The task that exists is kept, and both futures "
                "get its result. Give different work different keys."
            )
        )


def _want_known(state: Tables, ts: TaskState, cs: ClientState, to_start: list[TaskState]) -> None:
    want(ts, cs)
    report_key(state, ts, cs)
    if ts.state == "released":
        to_start.append(ts)


def _pin(cs: ClientState, event: UpdateGraph) -> ClientState | None:
    """While parts of a submission are still to come, all its tasks count as wanted."""
    pin = cs.pins.get(event.submission)
    if pin is None and not event.last:
        pin = cs.pins[event.submission] = ClientState(f"{cs.client_key}/{event.submission}", 0.0, mute=True)
    return pin


def release_pin(state: Tables, cs: ClientState, submission: int) -> None:
    """The last part has come: from now on only what is really needed is kept."""
    pin = cs.pins.pop(submission)
    tasks = list(pin.wants_what)
    for ts in tasks:
        ts.who_wants = Members([c for c in ts.who_wants if c is not pin])
    pin.wants_what.clear()
    release_unneeded(state, tasks)
