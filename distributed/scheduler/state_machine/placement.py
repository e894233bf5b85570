"""The placing beat: which worker runs which ready task. Once per batch of events. Pure.

Tasks without inputs of their own (root-ish: no dependencies, or a large group that shares fewer than five) go to
whoever has room, else into the queue. All others go where their inputs lie or to the idlest worker, whichever can be
expected to have them done first: (expected seconds of the worker's backlog a thread) + (missing bytes / bandwidth).
"""

from __future__ import annotations

from itertools import islice

from distributed.scheduler.state_machine.ahead import send_ahead
from distributed.scheduler.state_machine.entities import Policy, TaskState, WorkerState
from distributed.scheduler.state_machine.occupancy import (
    count_open,
    first_open,
    least_busy,
    refresh_touched,
    refresh_worker,
)
from distributed.scheduler.state_machine.queuing import TaskQueue, sort_by_priority
from distributed.scheduler.state_machine.restrictions import allowed_workers, has_resources, unsatisfied
from distributed.scheduler.state_machine.tables import Tables, set_state
from distributed.scheduler.state_machine.transitions.assign import assign
from distributed.scheduler.state_machine.unrunnable import Cause

# Of many holders, or of many workers that qualify, so many are looked at.
SAMPLE = 16
# Short tasks go to workers in handfuls, but at least to so many workers.
SPREAD = 8


def place_ready(state: Tables) -> None:
    """Place what has become ready, then fill workers that have room from the queue."""
    refresh_touched(state)
    ready = state.ready
    if state.fleet_changed:
        state.fleet_changed = False
        for cause in state.unrunnable.causes.values():
            if _may_run(state, cause):
                ready.extend(cause.tasks)
    if ready:
        state.ready = []
        if len(ready) > 1:
            sort_by_priority(ready)
        _place(state, ready)
    if state.queued.n:
        _deal(state, state.queued)


def _may_run(state: Tables, cause: Cause) -> bool:
    """Whether it is worth while to look at the tasks of a cause: there may be very many."""
    if cause.pinned is not None:
        return True
    if cause.policy.free:
        return bool(state.running)
    return any(ws.running for ws in allowed_workers(state, cause.policy))


def _place(state: Tables, ready: list[TaskState]) -> None:
    queue = state.queued
    stimulus_id = state.stimulus_id
    threads = -1
    roots: list[TaskState] = []
    inputs: _Inputs | None = None
    shared_from = state.settings.shared_from
    for ts in ready:
        found = ts.state
        if (found != "waiting" or ts.n_waiting) and found != "no-worker":
            continue
        policy = ts.policy
        dependencies = ts.dependencies
        if policy.free and not policy.actor and (ts.rare is None or ts.rare.avoid is None):
            if dependencies and threads < 0:
                threads = state.total_nthreads
            if not dependencies or is_rootish(ts, threads):
                roots.append(ts)
                continue
        if len(dependencies) >= shared_from:
            # The tasks of one round of an exchange come one after the other and have the very same inputs.
            if inputs is None or inputs.dependencies is not dependencies or inputs.policy is not policy:
                allowed = None if policy.free else allowed_workers(state, policy)
                inputs = _Inputs(state, dependencies, policy, allowed)
            ws = choose_worker(state, ts, inputs)
        else:
            ws = choose_worker(state, ts)
        if ws is not None:
            if found == "no-worker":
                state.unrunnable.drop(ts)
            assign(state, ts, ws, stimulus_id)
            if ts.dependents:
                send_ahead(state, ts, ws, stimulus_id)
            refresh_worker(state, ws)
        elif found != "no-worker":
            set_state(state, ts, "no-worker")
            state.unrunnable.add(ts, state.now, state.now + state.settings.tell_no_worker_s)
    if roots:
        if not queue.n:
            # Nobody is before them: what there is room for need not go through the queue.
            roots.reverse()
            _deal(state, roots)
            roots.reverse()
        for ts in roots:
            if ts.state == "queued":
                continue
            if ts.state == "no-worker":
                state.unrunnable.drop(ts)
            set_state(state, ts, "queued")
            queue.push(ts)


def is_rootish(ts: TaskState, total_nthreads: int) -> bool:
    """Whether the task is one of many that share a few inputs, so that it does not matter where it runs."""
    group = ts.group
    if group.n_tasks <= 2 * total_nthreads or len(group.dependencies) >= 5:
        return False
    if sum([g.n_tasks for g in group.dependencies]) >= 5:
        return False
    return not any(dep.rare is not None and dep.rare.unshippable is not None for dep in ts.dependencies)


def _deal(state: Tables, source: TaskQueue | list[TaskState]) -> None:
    """Hand out root-ish tasks (of a list: the last first) until none is left or nobody has room: first to free threads,
    then up to saturation, then by the expected time."""
    pop = source.pop
    stimulus_id = state.stimulus_id
    unrunnable = state.unrunnable
    n_given = len(source)
    share = n_given // max(1, min(SPREAD, count_open(state))) if n_given > SPREAD else 0
    while source:
        ws = first_open(state)
        if ws is None:
            return
        level = ws.level
        if level <= 1:
            n = ws.nthreads - ws.n_active
        elif level == 2:
            n = 1
        else:
            n = max(1, len(source) // count_open(state))
        if n < share:
            n = max(n, _handful(state, source, ws, share))
        capacity = ws.capacity + len(ws.long_running)
        prefetch_s = ws.prefetch_s
        processing = ws.processing
        while n and source and (len(processing) < capacity or ws.occupancy < prefetch_s):
            ts = pop()
            if ts.processing_on is not None:
                # It became ready twice in this beat.
                continue
            if unrunnable:
                unrunnable.drop(ts)
            assign(state, ts, ws, stimulus_id)
            if ts.dependents:
                send_ahead(state, ts, ws, stimulus_id)
            n -= 1
        refresh_worker(state, ws)


def _handful(state: Tables, source: TaskQueue | list[TaskState], ws: WorkerState, share: int) -> int:
    """How many of many short tasks a worker gets at once: to wake each of two hundred for five tasks of 10 us costs
    more than the tasks. At least ``SPREAD`` workers (or all) get some."""
    ts = source[-1] if type(source) is list else source.peek()  # type: ignore[union-attr]
    if ts is None:
        return 1
    return min(int(state.settings.handful_s * ws.nthreads / ts.group.prefix.expected_s), share)


class _Inputs:
    """What placement knows of the inputs of tasks that share all of them: it holds for one placing beat.

    ``local``: bytes of them that lie on each worker that qualifies; ``popular`` are those with too many holders to look
    at each, of whose holders only some are in ``local``, with nothing counted. ``pinned`` cannot be shipped.
    """

    __slots__ = ("dependencies", "local", "pinned", "policy", "popular", "total")

    def __init__(
        self,
        state: Tables,
        dependencies: tuple[TaskState, ...],
        policy: Policy,
        allowed: dict[WorkerState, None] | None,
    ) -> None:
        self.dependencies = dependencies
        self.policy = policy
        self.local: dict[WorkerState, int] = {}
        self.popular: list[tuple[TaskState, int]] = []
        self.total = 0
        self.pinned: TaskState | None = None
        local = self.local
        unknown_nbytes = state.settings.unknown_nbytes
        for dep in dependencies:
            nbytes = dep.nbytes
            if nbytes < 0:
                nbytes = unknown_nbytes
            self.total += nbytes
            if dep.rare is not None and dep.rare.unshippable is not None:
                self.pinned = dep
            holders = dep.who_has
            if len(holders) > SAMPLE:
                self.popular.append((dep, nbytes))
                first = state.run_counter % len(holders)
                holders = holders[first : first + 4]
                nbytes = 0
            for ws in holders:
                if ws.running and (allowed is None or ws in allowed):
                    local[ws] = local.get(ws, 0) + nbytes


def choose_worker(state: Tables, ts: TaskState, known: _Inputs | None = None) -> WorkerState | None:
    """The worker expected to have the task done first; None when none qualifies. O(dependencies) unless ``known``."""
    policy = ts.policy
    allowed = None if policy.free else allowed_workers(state, policy)
    if allowed is not None and not allowed:
        return None
    rare = ts.rare
    avoid = rare.avoid if rare is not None else None
    dependencies = ts.dependencies
    if not dependencies:
        return _idlest(state, policy, allowed, avoid)

    settings = state.settings
    inputs = known if known is not None else _Inputs(state, dependencies, policy, allowed)
    if inputs.pinned is not None:
        return _on_holder(inputs.pinned, allowed, policy)
    idlest = _idlest(state, policy, allowed, avoid)
    if idlest is None:
        return None
    local = inputs.local
    if idlest not in local:
        local = {**local, idlest: 0}
    if len(local) == 1:
        return idlest
    total = inputs.total
    popular = inputs.popular
    best = idlest
    least = (1e300, 0)
    for ws, nbytes in local.items():
        if ws is avoid:
            continue
        seconds = ws.occupancy / ws.nthreads
        if popular:
            nbytes += sum([size for dep, size in popular if dep in ws.has_what])
        if nbytes < total:
            seconds += (total - nbytes) / settings.bandwidth + settings.transfer_latency_s
        cost = (seconds, ws.nbytes)
        if cost < least:
            least = cost
            best = ws
    return best


def _on_holder(dep: TaskState, allowed: dict[WorkerState, None] | None, policy: Policy) -> WorkerState | None:
    """The value of ``dep`` cannot be shipped: its dependents run where it lies, whatever workers they wish for (but not
    without the resources that they need)."""
    for ws in dep.who_has:
        if ws.running and (allowed is None or ws in allowed):
            return ws
    for ws in dep.who_has:
        if ws.alive and ws.nthreads and has_resources(ws, policy.resources):
            return ws
    return None


def _idlest(
    state: Tables, policy: Policy, allowed: dict[WorkerState, None] | None, avoid: WorkerState | None
) -> WorkerState | None:
    if allowed is None:
        ws = least_busy(state)
        if ws is None or ws is not avoid or len(state.running) == 1:
            return ws
        return min([w for w in state.running if w is not avoid], key=_load)
    candidates = allowed
    if len(allowed) > SAMPLE:
        # A window that moves on, so that all get their turn.
        start = policy.cursor = policy.cursor % (len(allowed) - SAMPLE + 1)
        policy.cursor += SAMPLE
        candidates = dict.fromkeys(islice(allowed, start, start + SAMPLE))
    usable = [ws for ws in candidates if ws.running]
    if not usable and candidates is not allowed:
        usable = [ws for ws in allowed if ws.running]
    if not usable:
        return None
    others = [ws for ws in usable if ws is not avoid]
    return min(others or usable, key=_load)


def _load(ws: WorkerState) -> tuple[float, int, int]:
    return (ws.occupancy / ws.nthreads, len(ws.processing), ws.nbytes)


def no_worker_reason(state: Tables, ts: TaskState) -> list[str]:
    """Why a task has no worker, one sentence each."""
    for dep in ts.dependencies:
        if dep.unshippable is not None:
            return [f"its input {dep.key!r} cannot leave the worker(s) {[ws.address for ws in dep.who_has]}"]
    return unsatisfied(state, ts.policy) or ["it will be placed in the next beat"]
