"""Queries of adaptive clusters."""

from __future__ import annotations

from distributed.messages.client_to_scheduler import TaskOptions
from distributed.scheduler.state_machine.scaling import adaptive_target, workers_to_close

from .environment import TestEnv, a_task


def test_target_follows_the_expected_work() -> None:
    env = TestEnv()
    assert adaptive_target(env.state) == 0
    env.submit(*[a_task(("x", i)) for i in range(100)])
    assert adaptive_target(env.state, 5.0) == 10
    assert adaptive_target(env.state, 0.01) == 100, "never more workers than tasks"
    env.join("a")
    assert adaptive_target(env.state, 5.0) == 10


def test_unrunnable_tasks_ask_for_a_first_worker() -> None:
    env = TestEnv()
    env.submit(a_task("x"), options=[TaskOptions(resources={"GPU": 1})])
    assert adaptive_target(env.state) == 1


def test_idle_workers_close_but_data_and_work_stay() -> None:
    env = TestEnv()
    for name in "abcd":
        env.join(name, memory_limit=1000)
    env.scatter("x", "a", nbytes=600)
    env.submit(a_task("busy"), options=[TaskOptions(workers=("b",))])
    closing = [ws.name for ws in workers_to_close(env.state)]
    assert closing == ["c", "d"]
    assert [ws.name for ws in workers_to_close(env.state, minimum=3)] == ["c"]
    assert [ws.name for ws in workers_to_close(env.state, target=1)] == ["c", "d", "a"]


def test_workers_with_actors_stay() -> None:
    env = TestEnv({"a": 1})
    env.submit(a_task("actor"), options=[TaskOptions(actor=True)])
    env.finish("actor")
    assert workers_to_close(env.state, n=1) == []
