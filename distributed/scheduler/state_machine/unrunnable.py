"""The tasks that no worker may take: since when, and by cause. Data only. Pure.

A cause is what tasks wish in common (workers, resources, an input that cannot leave its worker). A million tasks with
one wish are one cause: adding and dropping a task is O(1), and whoever looks at the causes never looks at all tasks.
"""

from __future__ import annotations

from itertools import islice
from typing import TypeAlias

from distributed.base.keys import Key
from distributed.scheduler.state_machine.entities import Policy, TaskState

# Workers, whether they may be ignored, resources, the input that cannot leave its worker.
Wish: TypeAlias = tuple[tuple[str, ...] | None, bool, tuple[tuple[str, float], ...], Key | None]

MAX_SAMPLE = 20


class Cause:
    """What ``tasks`` have in common, ``since`` the first of them came. ``fresh`` holds some that have come since it was
    last looked at, ``told`` the clients that have heard of it; ``announced``: so has the log."""

    __slots__ = ("policy", "pinned", "since", "tasks", "fresh", "told", "announced")

    def __init__(self, policy: Policy, pinned: TaskState | None, since: float) -> None:
        self.policy = policy
        self.pinned = pinned
        self.since = since
        self.tasks: dict[TaskState, None] = {}
        self.fresh: list[TaskState] = []
        self.told: dict[str, None] = {}
        self.announced = False


class Unrunnable(dict[TaskState, float]):
    """Since when each task has no worker. Changed by ``add`` and ``drop`` only.

    ``pending`` are the causes that are to be looked at, with the time; the earliest first.
    """

    __slots__ = ("causes", "pending", "_cause_of")

    def __init__(self) -> None:
        super().__init__()
        self.causes: dict[Wish, Cause] = {}
        self.pending: dict[Wish, float] = {}
        self._cause_of: dict[TaskState, Wish] = {}

    def add(self, ts: TaskState, now: float, look_at: float) -> None:
        """A task has no worker; look at its cause at ``look_at``, or when that is due already."""
        pinned = next((dep for dep in ts.dependencies if dep.unshippable is not None), None)
        wish = _wish(ts.policy, pinned)
        cause = self.causes.get(wish)
        if cause is None:
            cause = self.causes[wish] = Cause(ts.policy, pinned, now)
        cause.tasks[ts] = None
        if len(cause.fresh) < MAX_SAMPLE:
            cause.fresh.append(ts)
        self[ts] = now
        self._cause_of[ts] = wish
        if wish not in self.pending:
            self.pending[wish] = look_at

    def drop(self, ts: TaskState) -> None:
        """The task goes on, or ends; nothing when it is not here."""
        wish = self._cause_of.pop(ts, None)
        if wish is None:
            return
        del self[ts]
        cause = self.causes[wish]
        del cause.tasks[ts]
        if not cause.tasks:
            del self.causes[wish]
            self.pending.pop(wish, None)

    def look(self, wish: Wish) -> list[TaskState]:
        """Some tasks of a cause, those that have come since the last look if there are any; never empty."""
        cause = self.causes[wish]
        fresh = [ts for ts in cause.fresh if ts in cause.tasks]
        cause.fresh = []
        return fresh or list(islice(cause.tasks, MAX_SAMPLE))

    def begin_anew(self, look_at: float) -> None:
        """Whatever was told is out of date: look at all causes at ``look_at``, and tell what holds then."""
        for cause in self.causes.values():
            cause.announced = False
            cause.told = {}
        self.pending = dict.fromkeys(self.causes, look_at)

    def due(self) -> float | None:
        """When a cause is to be looked at."""
        return next(iter(self.pending.values()), None)


def _wish(policy: Policy, pinned: TaskState | None) -> Wish:
    resources = tuple(sorted(policy.resources.items())) if policy.resources else ()
    return (policy.workers, policy.loose, resources, None if pinned is None else pinned.key)
