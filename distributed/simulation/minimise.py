"""Makes a failing script small: leaves out all that the failure does not need (delta debugging). Pure.

A shorter script counts when it fails by the same rule. First records are left out, in ever smaller pieces; then the
tasks of what is left, then extreme settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from msgspec.structs import replace

from distributed.simulation.episode import Episode, Failure
from distributed.simulation.script import Script, Submit, TaskPlan

T = TypeVar("T")


def failure_of(script: Script) -> Failure | None:
    """How the script fails, if it does."""
    try:
        Episode(script, thorough=True).run()
    except Failure as failure:
        return failure
    return None


@dataclass
class _Search:
    """The smallest failing script so far, and how many runs may still be made."""

    failure: Failure
    runs_left: int

    def take(self, script: Script) -> bool:
        """Keep the script if it fails alike."""
        if self.runs_left <= 0:
            return False
        self.runs_left -= 1
        failure = failure_of(script)
        if failure is None or failure.rule != self.failure.rule:
            return False
        self.failure = failure
        return True

    @property
    def script(self) -> Script:
        return self.failure.script


def minimise(failure: Failure, max_runs: int = 400) -> Failure:
    """The failure of the smallest script that could be found within so many runs."""
    search = _Search(failure, max_runs)
    before = -1
    while before != len(search.script.acts) and search.runs_left > 0:
        before = len(search.script.acts)
        _shrink(search.script.acts, lambda acts: search.take(replace(search.script, acts=acts)))
    _shrink_tasks(search)
    for name in ("lazy", "heartbeat_s"):
        if getattr(search.script, name):
            search.take(replace(search.script, **{name: 0.0}))
    for table in ("scheduler", "worker"):
        for name in list(getattr(search.script, table)):
            rest = {key: value for key, value in getattr(search.script, table).items() if key != name}
            search.take(replace(search.script, **{table: rest}))
    return search.failure


def _shrink(items: Sequence[T], fails: Callable[[list[T]], bool]) -> None:
    """Leave out halves, quarters, ... down to single items, for as long as that fails."""
    kept = list(items)
    size = max(1, len(kept) // 2)
    while kept:
        start = len(kept)
        while start > 0:
            first = max(0, start - size)
            rest = kept[:first] + kept[start:]
            if len(rest) < len(kept) and fails(rest):
                kept = rest
            start = first
        if size == 1:
            return
        size = max(1, size // 2)


def _shrink_tasks(search: _Search) -> None:
    for place, act in enumerate(search.script.acts):
        if isinstance(act, Submit) and len(act.tasks) > 1:
            _shrink(act.tasks, _with_tasks(search, place))


def _with_tasks(search: _Search, place: int) -> Callable[[list[TaskPlan]], bool]:
    def fails(tasks: list[TaskPlan]) -> bool:
        acts: list[Any] = list(search.script.acts)
        there = {task.key for task in tasks}
        wanted = acts[place].wanted
        chosen = None if wanted is None else tuple([name for name in wanted if name in there])
        acts[place] = replace(acts[place], tasks=tasks, wanted=chosen)
        return bool(tasks) and search.take(replace(search.script, acts=acts))

    return fails
