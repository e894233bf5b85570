"""A task that has raised runs again after a wait, which is a deadline and nothing else."""

from __future__ import annotations

from distributed.messages.client_to_scheduler import TaskOptions
from distributed.messages.rules import Backoff
from tests.unit.scheduler.state_machine.environment import TestEnv, a_task

PATIENT = TaskOptions(retries=2, backoff=Backoff(1.0))


def test_each_wait_is_twice_the_one_before() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), options=[PATIENT])
        assert len(env.computes("a")) == 1
        for wait_s in (1.0, 2.0):
            env.raise_("x")
            assert env.states() == {"x": "waiting"} and not env.sent("a")
            assert f"runs again in {wait_s:g} s" in env.state.explain("x").text
            env.wait(wait_s - 0.01)
            assert env.states() == {"x": "waiting"}
            env.wait(0.02)
            assert env.computed_keys("a") == ["x"]
        env.raise_("x")
        assert env.states() == {"x": "erred"}
        env.ignore_all()


def test_what_is_cancelled_meanwhile_does_not_run() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), options=[PATIENT])
        env.computes("a")
        env.raise_("x")
        env.cancel("x")
        assert not env.state.tasks and not env.state.delayed
        env.wait(5)
        assert not env.sent("a")


def test_an_input_that_is_lost_meanwhile_is_waited_for() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.submit(a_task("x"), a_task("y", "x", options=1), options=[TaskOptions(), PATIENT], wanted=["y"])
        env.finish("x")
        env.raise_("y")
        lost_on = env.holders("x")[0]
        env.lose(lost_on)
        assert not env.state.delayed
        env.ignore_all()
        env.finish("x")
        assert env.states() == {"x": "memory", "y": "processing"}
        env.ignore_all()


def test_the_longest_wait() -> None:
    backoff = Backoff(1.0, 2.0, 5.0)
    assert [backoff.delay_s(n) for n in (1, 2, 3, 4, 100_000)] == [1.0, 2.0, 4.0, 5.0, 5.0]
