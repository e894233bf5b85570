"""What the plan of shuffles means for the scheduler's tables: holders, the end of a run, events that follow. Pure."""

from __future__ import annotations

from distributed.base.keys import Key, as_key
from distributed.scheduler.state_machine import SchedulerState, TaskState, WorkerState
from distributed.scheduler.state_machine.events import PinTasks, RecomputeTasks
from distributed.scheduler.state_machine.restrictions import allowed_workers
from distributed.shuffle.names import barrier_key, id_from_key
from distributed.shuffle.plan import Instruction, Pin, Recompute, Run, ShufflePlan

DONE = frozenset(["released", "erred", "forgotten"])
"""States of a barrier that nobody waits for any more."""


def barrier_of(state: SchedulerState, shuffle_id: str) -> TaskState | None:
    """The record of a shuffle's barrier."""
    ts: TaskState | None = state.tasks.get(as_key(barrier_key(shuffle_id)))
    return ts


def choose_holders(state: SchedulerState, barrier: TaskState) -> list[str]:
    """The workers that a new run may use: those that run and that the barrier's submission allows, or else any."""
    allowed = allowed_workers(state, barrier.policy)
    chosen = [ws for ws in allowed if ws.running] or [ws for ws in state.workers.values() if ws.running]
    return [ws.address for ws in chosen or [ws for ws in state.workers.values() if ws.alive]]


def partner_of(plan: ShufflePlan, barrier: TaskState) -> str | None:
    """A running shuffle that some unpack of this one needs too."""
    for dependent in barrier.dependents:
        if dependent.run_spec is None or dependent.run_spec.partition < 0:
            continue
        for dependency in dependent.dependencies:
            other = id_from_key(dependency.key)
            if dependency is not barrier and other is not None and other in plan.runs:
                return other
        return None
    return None


def lost_of_partner(state: SchedulerState, plan: ShufflePlan, partner: str | None) -> list[Instruction]:
    """What the partner's own watch is about to find: it must not become this run's."""
    found: list[Instruction] = []
    for address in plan.runs[partner].holders if partner is not None else ():
        if address not in state.workers:
            found += plan.lose_holder(address)
    return found


class RunWatch:
    """Says when a run is over: its barrier is no longer needed, or a holder is gone.

    Parameters
    ----------
    barrier
        The record as it was when the run began: a successor under the same key is another one. So with holders.
    """

    __slots__ = ("_barrier", "_epoch", "_holders", "run")

    def __init__(self, state: SchedulerState, run: Run, barrier: TaskState) -> None:
        self.run = run
        self._barrier = barrier
        self._holders: dict[str, WorkerState | None] = {address: state.workers.get(address) for address in run.holders}
        self._epoch = -1

    def is_over(self, state: SchedulerState, plan: ShufflePlan) -> bool:
        """Cheap while no worker comes or goes."""
        if plan.runs.get(self.run.shuffle_id) is not self.run or self._is_done(state):
            return True
        if self._epoch == state.epoch:
            return False
        self._epoch = state.epoch
        return self._lost(state) is not None

    def conclude(self, state: SchedulerState, plan: ShufflePlan) -> list[Instruction]:
        """What follows when it is."""
        if plan.runs.get(self.run.shuffle_id) is not self.run:
            return []
        lost = self._lost(state)
        if lost is not None and not self._is_done(state):
            return plan.lose_holder(lost)
        return plan.end(self.run.shuffle_id, "failed" if self._barrier.state == "erred" else "no longer needed")

    def _is_done(self, state: SchedulerState) -> bool:
        return self._barrier.state in DONE or state.tasks.get(self._barrier.key) is not self._barrier

    def _lost(self, state: SchedulerState) -> str | None:
        return next((a for a, ws in self._holders.items() if ws is None or state.workers.get(a) is not ws), None)


def events_of(state: SchedulerState, it: Pin | Recompute) -> list[PinTasks | RecomputeTasks]:
    """What the scheduler's core is to be told."""
    ts = barrier_of(state, it.shuffle_id)
    if ts is None:
        return []
    if isinstance(it, Pin):
        n = len(it.holders)
        return [
            PinTasks([
                (dependent.key, it.holders[dependent.run_spec.partition % n])
                for dependent in ts.dependents
                if dependent.run_spec is not None and dependent.run_spec.partition >= 0
            ])
        ]  # fmt: skip
    # The barrier first: then its inputs are still needed when they are dropped.
    keys = [ts.key, *[dependency.key for dependency in ts.dependencies]]
    pins: list[tuple[Key, str | None]] = [(d.key, None) for d in ts.dependents if d.policy.unpinned is not None]
    return [PinTasks(pins), RecomputeTasks(keys, it.reason)]
