"""``client.profile()``: the workers' samples of where their tasks stand, added up. Shell."""

from __future__ import annotations

from typing import Any

from distributed.base import profile_tree


async def profile_of_workers(
    scheduler: Any,
    workers: list[str] | None = None,
    merge_workers: bool = True,
    start: float | None = None,
    stop: float | None = None,
    key: str | None = None,
) -> Any:
    """One tree of all workers, or ``{worker: tree}``; workers that are gone or do not profile are left out."""
    message = {"op": "profile", "start": start, "stop": stop, "key": key}
    answers = await scheduler.broadcast(msg=message, workers=workers, on_error="ignore")
    trees = {worker: tree for worker, tree in answers.items() if tree is not None}
    return profile_tree.merge(profile_tree.create(), *trees.values()) if merge_workers else trees


def profile_of_worker(
    worker: Any, start: float | None = None, stop: float | None = None, key: str | None = None
) -> profile_tree.Tree | None:
    """The tree of one worker."""
    history = worker.profile_history
    return None if history is None else history.between(start, stop, key)
