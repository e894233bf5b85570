"""A model of the worker's executor: slots, runs that begin and end as their plan says. Pure.

A run that is behind another may begin, and end, before the core hears of the end of the one before: the reports of both
come later, in order.
"""

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
    hand_on
        ``hand_on(run_id, event)``: this run gets the value of the one before, which has ended so.
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
        hand_on: Callable[[int, ExecuteSuccess], None],
    ) -> None:
        self.queue: dict[int, Execute] = {}
        self.running: dict[int, tuple[Execute, TaskPlan]] = {}
        self.hung: dict[int, Execute] = {}
        self.behind: dict[int, dict[int, Execute]] = {}
        """Those that wait, by the run id of the one before."""
        self._unreported: dict[int, Any] = {}
        self._address = address
        self._slots = nthreads
        self._runs = runs
        self._rng = rng
        self._plan_of = plan_of
        self._after = after
        self._report = report
        self._die = die
        self._work = work
        self._hand_on = hand_on

    @property
    def busy(self) -> bool:
        """Whether a run will end by itself."""
        return bool(self.queue or self._unreported) or len(self.running) > len(self.hung)

    def submit(self, execute: Execute) -> None:
        """Queue a run, or have it wait for the one before."""
        before = execute.after
        if before < 0:
            self.queue[execute.run_id] = execute
            self._begin()
            return
        known = before in self.queue or before in self.running or before in self._unreported
        assert known or any(before in runs for runs in self.behind.values()), f"run {before} is not here any more"
        self.behind.setdefault(before, {})[execute.run_id] = execute

    def cancel(self, run_id: int) -> None:
        """Take a run back if it has not begun."""
        for runs in (self.queue, *self.behind.values()):
            if runs.pop(run_id, None) is not None:
                self._after(0.0, lambda: self._tell(ExecuteSkipped(run_id)))

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
        self._report_all()
        self._report(ExecuteLongRunning(execute.key, execute.run_id, plan.duration_s / 2))
        self._slots += 1
        self._begin()

    def _end(self, execute: Execute, plan: TaskPlan, had_slot: bool) -> None:
        run_id = execute.run_id
        del self.running[run_id]
        self._slots += had_slot
        self._runs.end(execute.key, run_id)
        self._tell(self._outcome(execute, plan))
        self._begin()

    def _tell(self, event: Any) -> None:
        """A run has ended. Its thread goes on with what is behind it; the core hears of it at once or later."""
        self._unreported[event.run_id] = event
        if type(event) is ExecuteSuccess and self._release(event) and self._rng.random() < 0.5:
            self._after(self._rng.choice((0.0, 0.001, 0.02)), self._report_all)
        else:
            self._report_all()

    def _report_all(self) -> None:
        while self._unreported:
            run_id = next(iter(self._unreported))
            event = self._unreported.pop(run_id)
            if type(event) is ExecuteSuccess:  # what has come behind it since
                self._release(event)
            else:
                for follower in self.behind.pop(run_id, {}):
                    self._unreported[follower] = ExecuteSkipped(follower)
            self._report(event)
        self._begin()

    def _release(self, event: ExecuteSuccess) -> bool:
        """Queue what is behind a run that has returned; whether there was anything."""
        released = self.behind.pop(event.run_id, {})
        for run_id in released:
            self._hand_on(run_id, event)
        self.queue.update(released)
        return bool(released)

    def _outcome(self, execute: Execute, plan: TaskPlan) -> Any:
        key, run_id, seconds = execute.key, execute.run_id, plan.duration_s
        if plan.behaviour == "raise":
            return ExecuteFailure(key, run_id, RAISED, seconds)
        if plan.behaviour == "reschedule":
            return ExecuteRescheduled(key, run_id)
        unshippable = UNSHIPPABLE if plan.behaviour == "unshippable" else None
        inline = Payload(b"v") if execute.wanted and unshippable is None and plan.nbytes < 500 else None
        return ExecuteSuccess(key, run_id, plan.nbytes, "int", seconds, inline, unshippable)
