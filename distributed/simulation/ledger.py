"""Every run of every task that ever began, wherever it did: what no single core can know. Pure."""

from __future__ import annotations

from collections import Counter

from distributed.base.keys import Key
from distributed.simulation.script import TaskPlan


class RunLedger:
    """Plans of tasks, and which runs have begun, and which are going on. ``peace``: nothing dies or hangs any more."""

    def __init__(self) -> None:
        self.peace = False
        self.plans: dict[Key, TaskPlan] = {}
        self.begun: set[int] = set()
        self.n_runs: Counter[Key] = Counter()
        self.going_on: dict[Key, dict[int, str]] = {}

    def plan(self, key: Key) -> TaskPlan:
        """How the next run of a key behaves."""
        plan = self.plans[key]
        behaves = plan.times < 0 or self.n_runs[key] < plan.times
        if behaves and not (self.peace and plan.behaviour in ("die", "hang")):
            return plan
        return TaskPlan(plan.key, duration_s=plan.duration_s, nbytes=plan.nbytes)

    def begin(self, address: str, key: Key, run_id: int) -> None:
        """A run begins; none does twice."""
        assert run_id not in self.begun, f"{address}: run {run_id} of {key!r} begins a second time"
        self.begun.add(run_id)
        self.going_on.setdefault(key, {})[run_id] = address
        self.n_runs[key] += 1

    def end(self, key: Key, run_id: int) -> None:
        """A run is over."""
        runs = self.going_on.get(key)
        if runs is not None:
            runs.pop(run_id, None)
            if not runs:
                del self.going_on[key]

    def process_gone(self, address: str) -> None:
        """A process has died, with all that ran there."""
        for key, runs in list(self.going_on.items()):
            for run_id in [run_id for run_id, where in runs.items() if where == address]:
                self.end(key, run_id)
