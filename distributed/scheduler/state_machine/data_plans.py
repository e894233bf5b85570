"""Plans for ``replicate`` and ``rebalance``. Pure queries; their result is fed back as ``MoveReplicas`` events."""

from __future__ import annotations

from distributed.base.keys import Key
from distributed.scheduler.state_machine.entities import TaskState, WorkerState
from distributed.scheduler.state_machine.events import MoveReplicas
from distributed.scheduler.state_machine.tables import Tables


def plan_replicate(
    state: Tables,
    keys: list[Key],
    n: int | None = None,
    workers: list[str] | None = None,
    delete: bool = True,
    branching_factor: int | None = None,
) -> list[MoveReplicas]:
    """Moves after which each key has ``n`` copies (None: one on each) on ``workers`` (None: all); surplus ones go if
    ``delete``.

    With a ``branching_factor`` they are the first round only: so many new copies for each that there is.
    """
    pool = _pool(state, workers)
    count = len(pool) if n is None else min(n, len(pool))
    load = {ws: ws.nbytes for ws in pool}
    moves: list[MoveReplicas] = []
    for ts in _in_memory(state, keys):
        holders = [ws for ws in pool if ws in ts.who_has]
        spare = sorted([ws for ws in pool if ws not in ts.who_has], key=lambda ws: load[ws])
        missing = max(0, count - len(holders))
        to = spare[: missing if branching_factor is None else min(missing, branching_factor * len(ts.who_has))]
        for ws in to:
            load[ws] += max(0, ts.nbytes)
        drop: list[WorkerState] = []
        if delete and len(holders) + len(to) >= count:
            keep = sorted(holders, key=lambda ws: load[ws])[: max(0, count - len(to))]
            drop = [ws for ws in ts.who_has if ws not in keep]
        moves.append(MoveReplicas(ts.key, [ws.address for ws in to], [ws.address for ws in drop], count))
    return moves


def plan_rebalance(
    state: Tables, keys: list[Key] | None = None, workers: list[str] | None = None, tolerance: float = 0.1
) -> list[MoveReplicas]:
    """Moves of single-copy keys from the fullest workers to the emptiest, until all are near the mean."""
    pool = _pool(state, workers)
    if len(pool) < 2:
        return []
    load = {ws: ws.nbytes for ws in pool}
    mean = sum(load.values()) / len(pool)
    wanted = None if keys is None else dict.fromkeys(_in_memory(state, keys))
    moves: list[MoveReplicas] = []
    for donor in sorted(pool, key=lambda ws: -load[ws]):
        tasks = [ts for ts in donor.has_what if wanted is None or ts in wanted]
        for ts in sorted(tasks, key=lambda ts: -ts.nbytes):
            if load[donor] <= mean * (1 + tolerance):
                break
            target = min(pool, key=lambda ws: load[ws])
            nbytes = max(0, ts.nbytes)
            movable = not ts.actor and ts.unshippable is None and target not in ts.who_has and nbytes > 0
            if movable and load[target] + nbytes <= max(mean * (1 + tolerance), load[donor] - nbytes):
                load[donor] -= nbytes
                load[target] += nbytes
                moves.append(MoveReplicas(ts.key, [target.address], [donor.address]))
    return moves


def _pool(state: Tables, workers: list[str] | None) -> list[WorkerState]:
    return [ws for ws in state.workers.values() if ws.running and (workers is None or ws.address in workers)]


def _in_memory(state: Tables, keys: list[Key]) -> list[TaskState]:
    tasks = [ts for key in keys if (ts := state.tasks.get(key)) is not None and ts.state == "memory"]
    # Actors and values that cannot be pickled stay where they are.
    return [ts for ts in tasks if not ts.policy.actor and ts.unshippable is None]
