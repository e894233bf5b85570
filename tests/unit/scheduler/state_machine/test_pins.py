"""Tasks bound to where their share of a shuffle lies, and results that are void."""

from __future__ import annotations

from distributed.messages.client_to_scheduler import TaskOptions
from distributed.messages.scheduler_to_worker import FreeKeys
from distributed.scheduler.state_machine.events import PinTasks, RecomputeTasks

from .environment import TestEnv, a_task


def test_pinned_tasks_run_where_they_are_told() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.submit(a_task("x"), a_task("y0", "x"), a_task("y1", "x"))
        env.event(PinTasks([("y0", "tcp://b:1"), ("y1", "tcp://a:1"), ("gone", "tcp://a:1")]))
        holder = env.task("x").processing_on
        assert holder is not None
        env.computed_keys("a"), env.computed_keys("b")
        env.finish("x")
        assert env.computed_keys("b") == ["y0"]
        assert env.computed_keys("a") == ["y1"]
        assert env.task("y0").worker_restrictions == {"tcp://b:1"}
        env.ignore_all()


def test_a_task_that_went_ahead_comes_back() -> None:
    with TestEnv({"a": 1, "b": 1}, default_durations_s={"x": 1e-4, "y": 1e-4}) as env:
        env.submit(a_task("x"), a_task("y", "x"))
        assert (env.where("x"), env.where("y")) == ("a", "a")
        env.event(PinTasks([("y", "tcp://b:1")]))
        assert env.task("y").state == "waiting"
        env.finish("x")
        assert env.where("y") == "b"
        env.ignore_all()


def test_what_else_the_submission_said_stays_and_comes_back() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        options = TaskOptions(priority=3, retries=2, workers=("a",))
        env.submit(a_task("x"), a_task("y", "x", options=1), options=[TaskOptions(), options])
        before = env.task("y").policy
        env.event(PinTasks([("y", "tcp://b:1")]))
        pinned = env.task("y").policy
        assert (pinned.retries, pinned.negative_priority, pinned.workers) == (2, -3, ("tcp://b:1",))
        env.event(PinTasks([("y", "tcp://a:1")]))
        assert env.task("y").policy.unpinned is before
        env.event(PinTasks([("y", None)]))
        assert env.task("y").policy is before
        env.ignore_all()


def test_a_task_that_found_no_worker_is_looked_at_again() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("y", options=1), options=[TaskOptions(), TaskOptions(workers=("nobody",))])
        assert env.task("y").state == "no-worker"
        env.event(PinTasks([("y", "tcp://a:1")]))
        assert env.computed_keys("a") == ["y"]


def test_void_results_are_computed_again() -> None:
    """A value, a run under way and what waits for them, all at once."""
    with TestEnv({"a": 2}) as env:
        env.submit(a_task("t0"), a_task("t1"), a_task("barrier", "t0", "t1"))
        assert env.computed_keys("a") == ["t0", "t1"]
        env.release("t0", "t1")
        env.finish("t0")
        old = env.task("t1").run_id
        env.event(RecomputeTasks(["barrier", "t0", "t1"], "why"))
        freed = [key for m in env.sent("a") if type(m) is FreeKeys for key in m.keys]
        assert sorted(freed) == ["t0", "t1"]
        assert env.task("t1").run_id > old
        assert {env.task(k).state for k in ("t0", "t1")} == {"processing"}
        assert env.task("barrier").state == "waiting"
        env.finish("t0")
        env.finish("t1")
        assert env.computed_keys("a") == ["barrier"]
        env.finish("barrier")
        env.ignore_all()


def test_a_void_barrier_brings_back_what_was_released() -> None:
    with TestEnv({"a": 2}) as env:
        env.submit(a_task("t"), a_task("barrier", "t"), a_task("out", "barrier"), wanted=["out"])
        env.finish("t")
        env.finish("barrier")
        assert env.task("out").state == "processing"
        assert env.task("t").state == "released"
        env.event(RecomputeTasks(["barrier", "t"], "why"))
        assert env.task("t").state == "processing"
        assert env.task("barrier").state == env.task("out").state == "waiting"
        env.ignore_all()
        env.finish("t")
        env.finish("barrier")
        env.finish("out")
        assert env.task("out").state == "memory"
        env.ignore_all()
