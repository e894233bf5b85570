"""Tasks that are sent to a worker together with what computes their inputs there, and what brings them back."""

from __future__ import annotations

from distributed.messages.client_to_scheduler import DataAnnounced, DataScattered, ReplicaOnWorkers, TaskOptions
from distributed.messages.scheduler_to_worker import ComputeTask, FreeKeys
from distributed.messages.worker_to_scheduler import StealResponse, TaskRescheduled
from tests.unit.scheduler.state_machine.environment import TestEnv, a_task

FAST = {"default_durations_s": {"x": 1e-4, "y": 1e-4, "z": 1e-4}}


def sent_keys(env: TestEnv, name: str) -> list[str]:
    """Keys of the ComputeTask messages to a worker, in order; ``-key`` for those it is told to forget."""
    found: list[str] = []
    for message in env.sent(name):
        if type(message) is ComputeTask:
            found.append(str(message.key))
        elif type(message) is FreeKeys:
            found += [f"-{key}" for key in message.keys]
        else:
            raise AssertionError(message)
    return found


def chain(env: TestEnv) -> None:
    env.submit(a_task("x"), a_task("y", "x"), a_task("z", "y"), wanted=["z"])


def test_chain_goes_in_one_batch() -> None:
    with TestEnv({"a": 1, "b": 1}, **FAST) as env:
        chain(env)
        assert sent_keys(env, "a") == ["x", "y", "z"]
        assert env.states() == dict.fromkeys("xyz", "processing")
        assert "sent ahead" in env.state.explain("z").text and "'y'" in env.state.explain("z").text
        for key in "xyz":
            env.finish(key, duration_s=1e-4)
        assert sent_keys(env, "a") == ["-x", "-y"]
        assert env.states()["z"] == "memory"
        env.told()


def test_long_and_unknown_tasks_are_not_sent_ahead() -> None:
    for durations in ({}, {"x": 1.0, "y": 1.0}):
        with TestEnv({"a": 1, "b": 1}, default_durations_s=durations) as env:
            chain(env)
            assert sent_keys(env, "a") == ["x"]


def test_fan_out_is_left_to_all_workers() -> None:
    with TestEnv({"a": 1, "b": 1}, **FAST) as env:
        env.submit(a_task("x"), a_task("y-1", "x"), a_task("y-2", "x"))
        assert sent_keys(env, "a") == ["x"]


def test_inputs_on_two_workers() -> None:
    with TestEnv({"a": 1, "b": 1}, saturation=0.5, prefetch_s=1e-5, **FAST) as env:
        env.submit(a_task("x-1"), a_task("x-2"), a_task("y", "x-1", "x-2"))
        assert sent_keys(env, "a") == ["x-1"] and sent_keys(env, "b") == ["x-2"]
        assert env.states()["y"] == "waiting"


def test_options_that_bind_a_task_keep_it_here() -> None:
    for option in (TaskOptions(resources={"GPU": 1}), TaskOptions(workers=["b"]), TaskOptions(actor=True)):
        with TestEnv({"a": 1}, **FAST) as env:
            env.submit(a_task("x"), a_task("y", "x", options=1), options=[TaskOptions(), option])
            assert sent_keys(env, "a") == ["x"]


def test_what_a_client_is_about_to_scatter_is_not_sent_ahead() -> None:
    with TestEnv({"a": 1}, **FAST) as env:
        chain(env)
        for key in "xyz":
            env.finish(key, duration_s=1e-4)
        env.ignore_all()
        env.event(DataAnnounced(1, ["y"]), "c")
        assert sent_keys(env, "a") == ["x"]
        assert env.states()["y"] == "waiting" and "scattered" in env.state.explain("y").text
        env.finish("x", duration_s=1e-4)
        assert sent_keys(env, "a") == [], "nor does it follow"
        env.event(DataScattered([ReplicaOnWorkers("y", ("tcp://a:1",), 8, "int")], 1), "c")
        assert env.states()["y"] == "memory"
        env.ignore_all()


def test_failure_takes_the_followers_along() -> None:
    with TestEnv({"a": 1, "b": 1}, **FAST) as env:
        chain(env)
        env.sent("a")
        env.raise_("x")
        assert sent_keys(env, "a") == ["-y", "-z"]
        assert set(env.states().values()) == {"erred"}
        assert env.task("y").erred_on == []
        assert env.told()[0].blame == "x"


def test_retry_calls_the_followers_back() -> None:
    with TestEnv({"a": 1}, **FAST) as env:
        env.submit(a_task("x"), a_task("y", "x"), options=[TaskOptions(retries=1)])
        assert sent_keys(env, "a") == ["x", "y"]
        env.raise_("x")
        assert sent_keys(env, "a") == ["-y", "x", "y"]


def test_rescheduled_input_calls_the_followers_back() -> None:
    with TestEnv({"a": 1, "b": 1}, **FAST) as env:
        chain(env)
        env.sent("a")
        env.event(TaskRescheduled("x", env.task("x").run_id), "tcp://a:1")
        assert sent_keys(env, "a") == ["-y", "-z"]
        assert sent_keys(env, "b")[0] == "x"


def test_stolen_input_calls_the_followers_back() -> None:
    with TestEnv({"a": 1, "b": 1}, **FAST) as env:
        chain(env)
        env.sent("a")
        env.event(StealResponse("x", env.task("x").run_id, True), "tcp://a:1")
        assert sent_keys(env, "a")[:2] == ["-y", "-z"]
        env.ignore_all()


def test_death_of_the_worker_blames_only_what_ran() -> None:
    with TestEnv({"a": 1}, allowed_failures=0, **FAST) as env:
        chain(env)
        env.submit(a_task("x-2"))
        env.ignore_all()
        env.lose("a")
        assert env.task("x").state == "erred" and env.task("x").suspicious == 1
        assert env.task("z").suspicious == 0
        (removed,) = env.instructed()
        assert removed.n_rerun + removed.n_requeued <= 2
        env.ignore_all()


def test_lost_input_calls_the_followers_back() -> None:
    with TestEnv({"a": 1, "b": 1}, **FAST) as env:
        env.submit(a_task("x"), wanted=["x"])
        env.finish("x", duration_s=1e-4)
        env.ignore_all()
        env.submit(a_task("y", "x"), a_task("z", "y"))
        assert sent_keys(env, "a") == ["y", "z"]
        env.lose("a")
        assert env.where("x") == "b"
        assert env.task("y").state == env.task("z").state == "waiting"
        env.ignore_all()


def test_release_frees_the_followers() -> None:
    with TestEnv({"a": 1}, **FAST) as env:
        chain(env)
        env.sent("a")
        env.release("z")
        assert sorted(sent_keys(env, "a")) == ["-x", "-y", "-z"]
        assert not env.states()
