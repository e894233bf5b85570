"""A model of the worker's executor: slots, runs that begin and end as their plan says. Pure."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from distributed.base.keys import Key
from distributed.messages.payload import ErrorInfo, Payload
from distributed.simulation.script import TaskPlan
from distributed.worker.state_machine.events import (
    ExecuteFailure,
    ExecuteLongRunning,
    ExecuteRescheduled,
    ExecuteSkipped,
    ExecuteSuccess,
)
from distributed.worker.state_machine.instructions import Execute

RAISED = ErrorInfo("ValueError", "the task raised")
UNSHIPPABLE = ErrorInfo("TypeError", "cannot pickle this")


class Runs(Protocol):
    """What all executors of a cluster share: how often each key has run."""

    def begin(self, address: str, key: Key, run_id: int) -> None:
        """A run begins."""

    def end(self, key: Key, run_id: int) -> None:
        """It is over."""


class Executor:
    """The slots of one process.

    Parameters
    ----------
    plan_of
        How a run behaves.
    after
        ``after(seconds, act)``, for as long as the process lives and is not frozen.
    report
        Takes the events.
    die
        The process ends.
    work
        ``work(execute, plan, done)`` does what a task of a shuffle does; ``done(whether it is to run again)``.
    """

    def __init__(
        self,
        address: str,
        nthreads: int,
        runs: Runs,
        rng: Random,
        plan_of: Callable[[Execute], TaskPlan],
        after: Callable[[float, Callable[[], None]], None],
        report: Callable[[Any], None],
        die: Callable[[], None],
        work: Callable[[Execute, TaskPlan, Callable[[bool], None]], None],
    ) -> None:
        self.queue: dict[int, Execute] = {}
        self.running: dict[int, tuple[Execute, TaskPlan]] = {}
        self.hung: dict[int, Execute] = {}
        self._address = address
        self._slots = nthreads
        self._runs = runs
        self._rng = rng
        self._plan_of = plan_of
        self._after = after
        self._report = report
        self._die = die
        self._work = work

    @property
    def busy(self) -> bool:
        """Whether a run will end by itself."""
        return bool(self.queue) or len(self.running) > len(self.hung)

    def submit(self, execute: Execute) -> None:
        """Queue a run."""
        self.queue[execute.run_id] = execute
        self._begin()

    def cancel(self, run_id: int) -> None:
        """Take a run back if it has not begun."""
        if self.queue.pop(run_id, None) is not None:
            self._after(0.0, lambda: self._report(ExecuteSkipped(run_id)))

    def stop(self, run_id: int) -> None:
        """One that hangs may notice."""
        if run_id in self.hung and self._rng.random() < 0.5:
            execute = self.hung.pop(run_id)
            self._after(0.01, lambda: self._end(execute, TaskPlan("", behaviour="raise"), True))

    def executing(self) -> tuple[int, ...]:
        """Run ids of what has begun."""
        return tuple(self.running)

    def _begin(self) -> None:
        while self.queue and self._slots > 0:
            run_id = next(iter(self.queue))
            execute = self.queue.pop(run_id)
            plan = self._plan_of(execute)
            self._runs.begin(self._address, execute.key, run_id)
            self.running[run_id] = (execute, plan)
            self._slots -= 1
            self._follow(execute, plan)

    def _follow(self, execute: Execute, plan: TaskPlan) -> None:
        if plan.behaviour == "hang":
            self.hung[execute.run_id] = execute
        elif plan.behaviour == "die":
            self._after(plan.duration_s, self._die)
        elif plan.behaviour == "secede":
            self._after(plan.duration_s / 2, lambda: self._secede(execute, plan))
            self._after(plan.duration_s, lambda: self._end(execute, plan, False))
        elif plan.shuffles:
            self._after(plan.duration_s, lambda: self._work(execute, plan, lambda again: self._worked(execute, again)))
        else:
            self._after(plan.duration_s, lambda: self._end(execute, plan, True))

    def _worked(self, execute: Execute, again: bool) -> None:
        self._end(execute, TaskPlan("", behaviour="reschedule" if again else "succeed"), True)

    def _secede(self, execute: Execute, plan: TaskPlan) -> None:
        self._slots += 1
        self._report(ExecuteLongRunning(execute.key, execute.run_id, plan.duration_s / 2))
        self._begin()

    def _end(self, execute: Execute, plan: TaskPlan, had_slot: bool) -> None:
        run_id = execute.run_id
        del self.running[run_id]
        self._slots += had_slot
        self._runs.end(execute.key, run_id)
        self._report(self._outcome(execute, plan))
        self._begin()

    def _outcome(self, execute: Execute, plan: TaskPlan) -> Any:
        key, run_id, seconds = execute.key, execute.run_id, plan.duration_s
        if plan.behaviour == "raise":
            return ExecuteFailure(key, run_id, RAISED, seconds)
        if plan.behaviour == "reschedule":
            return ExecuteRescheduled(key, run_id)
        unshippable = UNSHIPPABLE if plan.behaviour == "unshippable" else None
        inline = Payload(b"v") if execute.wanted and unshippable is None and plan.nbytes < 500 else None
        return ExecuteSuccess(key, run_id, plan.nbytes, "int", seconds, inline, unshippable)
