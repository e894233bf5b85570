"""Which workers qualify for a task: ``workers=`` by address, name or host, and ``resources=``. Pure.

The answer is kept per policy (what one submission's tasks share) until the fleet changes, so it costs O(1) a task.
"""

from __future__ import annotations

from distributed.scheduler.state_machine.entities import Policy, WorkerState
from distributed.scheduler.state_machine.tables import Tables


def allowed_workers(state: Tables, policy: Policy) -> dict[WorkerState, None]:
    """The workers that qualify, paused ones too."""
    if policy.epoch != state.epoch:
        policy.epoch = state.epoch
        policy.allowed = _find_allowed(state, policy)
    return policy.allowed


def _find_allowed(state: Tables, policy: Policy) -> dict[WorkerState, None]:
    able = {ws: None for ws in state.workers.values() if ws.alive and has_resources(ws, policy.resources)}
    if policy.workers is None:
        return able
    named = {ws: None for ws in matching_workers(state, policy.workers) if ws in able}
    if policy.loose and not any(ws.running for ws in named):
        return able
    return named


def has_resources(ws: WorkerState, resources: dict[str, float] | None) -> bool:
    """Whether the worker could ever run a task that needs these."""
    return not resources or all(ws.resources.get(name, 0) >= amount for name, amount in resources.items())


def matching_workers(state: Tables, names: tuple[str, ...]) -> dict[WorkerState, None]:
    """Workers whose address (with or without scheme), name or host is one of ``names``."""
    found: dict[WorkerState, None] = {}
    for name in names:
        address = name if name in state.workers else state.aliases.get(name)
        ws = state.workers.get(address) if address is not None else None
        if ws is not None:
            found[ws] = None
        elif name in state.hosts:
            found.update(state.hosts[name])
        elif ":" in name and "://" not in name:
            found.update({w: None for w in state.workers.values() if w.address.endswith("://" + name)})
    return found


def unsatisfied(state: Tables, policy: Policy) -> list[str]:
    """What of the task's wishes no running worker meets, one sentence each; empty when some worker qualifies."""
    if not state.workers:
        return ["there are no workers"]
    if any(ws.running and ws.nthreads for ws in allowed_workers(state, policy)):
        return []
    reasons: list[str] = []
    if policy.workers is not None and not policy.loose:
        named = matching_workers(state, policy.workers)
        if not named:
            reasons.append(f"no worker has an address, name or host among {list(policy.workers)}")
        elif not any(has_resources(ws, policy.resources) for ws in named):
            reasons.append(f"none of the workers {list(policy.workers)} has the resources {policy.resources}")
    elif policy.resources and not any(has_resources(ws, policy.resources) for ws in state.workers.values()):
        reasons.append(f"no worker has the resources {policy.resources}")
    if not reasons:
        states = sorted({_word(state, ws) for ws in state.workers.values()})
        reasons.append(f"all workers that qualify are {' or '.join(states)}")
    return reasons


def _word(state: Tables, ws: WorkerState) -> str:
    if ws in state.away:
        return "away"
    return "suspect" if ws.suspect_since is not None else ws.status_name
