"""Named capacities of workers (``resources={"GPU": 1}``): what assigned tasks use of them. Pure."""

from __future__ import annotations

from distributed.scheduler.state_machine.entities import TaskState, WorkerState


def take_resources(ts: TaskState, ws: WorkerState) -> None:
    """The task is assigned to the worker. A worker may be assigned more than it has; it runs what fits."""
    for name, amount in (ts.policy.resources or {}).items():
        ws.used_resources[name] = ws.used_resources.get(name, 0.0) + amount


def give_back_resources(ts: TaskState, ws: WorkerState) -> None:
    """The task no longer is."""
    for name, amount in (ts.policy.resources or {}).items():
        left = ws.used_resources.get(name, 0.0) - amount
        ws.used_resources[name] = left if left > 1e-9 else 0.0
