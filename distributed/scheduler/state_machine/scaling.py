"""How many workers the present work asks for, and which could be closed. Pure queries for adaptive clusters."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable

from distributed.scheduler.state_machine.entities import WorkerState
from distributed.scheduler.state_machine.tables import Tables

# Above this share of memory in use, twice the workers are asked for.
MEMORY_FILL = 0.6


def adaptive_target(state: Tables, target_duration_s: float = 5.0) -> int:
    """Workers with which the work that is known would end in about ``target_duration_s``."""
    groups = state.task_groups.values()
    queued_s = sum([group.states["queued"] * group.prefix.expected_s for group in groups])
    seconds = state.total_occupancy + queued_s
    tasks = sum([len(ws.processing) for ws in state.workers.values()]) + state.queued.n
    target = min(math.ceil(seconds / target_duration_s), tasks)
    if (state.unrunnable or state.queued.n) and not state.workers:
        target = max(1, target)
    elif tasks and not target:
        target = 1
    limit = sum([ws.memory_limit for ws in state.workers.values()])
    used = sum([ws.nbytes for ws in state.workers.values()])
    if limit and used > MEMORY_FILL * limit:
        target = max(target, 2 * len(state.workers))
    if not target and state.workers and len(workers_to_close(state)) < len(state.workers):
        # Somebody has to keep the data.
        target = len(state.workers) - len(workers_to_close(state))
    return target


def workers_to_close(
    state: Tables,
    n: int | None = None,
    minimum: int | None = None,
    target: int | None = None,
    memory_ratio: float = 2.0,
    key: Callable[[WorkerState], Hashable] | None = None,
) -> list[WorkerState]:
    """Workers that could be closed: without work and without actors, those with the least data first, in whole groups
    of the same ``key``.

    ``n`` of them (or down to ``target``); without either, as many as leave ``memory_ratio`` times the memory in use.
    """
    if not state.workers or (n is None and target is None and (state.queued.n or state.unrunnable)):
        return []
    groups: dict[Hashable, list[WorkerState]] = {}
    for ws in state.workers.values():
        groups.setdefault(ws.address if key is None else key(ws), []).append(ws)
    if n is None and target is not None:
        n = max(0, len(state.workers) - target)
    used = sum([ws.nbytes for ws in state.workers.values()])
    limit = sum([ws.memory_limit for ws in state.workers.values()])
    left = len(state.workers)
    chosen: list[WorkerState] = []
    ordered = sorted(groups.values(), key=lambda g: (any(ws.processing for ws in g), sum([ws.nbytes for ws in g])))
    for group in ordered:
        if minimum is not None and left - len(group) < minimum:
            break
        if any(ws.actors for ws in group):
            continue
        limit -= sum([ws.memory_limit for ws in group])
        if n is not None:
            if len(chosen) + len(group) > n:
                break
        elif any(ws.processing for ws in group) or (used and limit < memory_ratio * used):
            break
        chosen.extend(group)
        left -= len(group)
    return chosen
