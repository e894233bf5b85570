"""Every state of a task that has not ended gives a true reason (in a real cluster: ``behaviour/test_why.py``)."""

from __future__ import annotations

from typing import Any

from distributed.messages.client_to_scheduler import TaskOptions, UpdateGraph
from distributed.messages.nanny import WorkerProcessExited, WorkerVouched
from distributed.messages.worker_to_scheduler import Heartbeat, TaskLongRunning, WorkerStatus
from tests.unit.scheduler.state_machine.environment import TestEnv, a_task


def why(env: TestEnv, key: Any) -> Any:
    return env.state.explain(key)


def test_unknown():
    found = why(TestEnv(), "x")
    assert (found.state, found.text) == ("forgotten", "'x' is not known: never submitted, released, or cancelled")


def test_waiting_names_some_of_many():
    env = TestEnv({"a": 1})
    env.submit(*[a_task(f"x-{i}") for i in range(30)], a_task("y", *[f"x-{i}" for i in range(30)]))
    found = why(env, "y")
    assert found.text.startswith("waits for 30 task(s): 'x-0' (processing), 'x-1' ")
    assert found.text.endswith(", ...")
    assert (found.n_waiting_on, len(found.waiting_on)) == (30, 20)


def test_waiting_for_the_placing_beat():
    env = TestEnv({"a": 1})
    env.state.handle(_graph(a_task("x")), "c", 0.0)
    assert why(env, "x").text == "ready; it will be placed in this beat"
    env.flush()


def _graph(*specs: Any) -> Any:

    return UpdateGraph(1, list(specs))


def test_queued():
    env = TestEnv({"a": 1})
    env.submit(*[a_task(f"x-{i}") for i in range(5)])
    found = why(env, "x-4")
    assert found.text == "queued behind 2 task(s): all 1 running worker(s) have enough to do"
    assert found.queued_behind == 2
    env.event(WorkerStatus("paused"), "tcp://a:1")
    assert why(env, "x-4").text == "all workers that qualify are paused; queued behind 2 task(s)"
    env.lose("a")
    assert why(env, "x-4").unsatisfied == ["there are no workers"]


def test_no_worker():
    env = TestEnv({"a": 1})
    env.submit(a_task("x"), options=[TaskOptions(workers=("nowhere",))])
    env.submit(a_task("y"), options=[TaskOptions(workers=("a",), resources={"GPU": 1})])
    assert why(env, "x").text == "no worker: no worker has an address, name or host among ['nowhere']"
    assert "none of the workers ['a'] has the resources {'GPU': 1}" in why(env, "y").text


def test_processing():
    env = TestEnv({"a": 1})
    env.submit(a_task("x-1"), a_task("x-2"))
    assert why(env, "x-1").text == "assigned to tcp://a:1, which has 0 task(s) of higher priority"
    assert why(env, "x-2").text == "assigned to tcp://a:1, which has 1 task(s) of higher priority"
    env.event(Heartbeat({}, [("x-1", 1.5)]), "tcp://a:1")
    env.now += 2
    env.event(Heartbeat({}), "stranger")
    found = why(env, "x-1")
    assert found.text == "runs on tcp://a:1 since 3.5 s"
    assert found.executing_s == 3.5
    env.event(WorkerStatus("paused"), "tcp://a:1")
    assert "which is paused and starts no task now" in why(env, "x-2").text
    env.event(TaskLongRunning("x-1", env.task("x-1").run_id, 1.0), "tcp://a:1")
    assert "seceded" in why(env, "x-1").text


def test_inputs_to_fetch():
    env = TestEnv({"a": 1, "b": 1})
    env.scatter("x", "b")
    env.submit(a_task("y", "x"), options=[TaskOptions(workers=("a",))])
    found = why(env, "y")
    assert "1 input(s) to fetch, first 'x' from tcp://b:1" in found.text
    assert found.fetching == [("x", ["tcp://b:1"])]


def test_the_worker_has_vanished_or_is_suspect():
    env = TestEnv(suspect_s=5.0)
    env.join("a", nanny="tcp://n:1")
    env.submit(a_task("x"))
    env.wait(6.5)
    assert "is suspect: no heartbeat for 6 s" in why(env, "x").text
    env.event(WorkerVouched("tcp://a:1", 0, 6.0, "running", (env.task("x").run_id,)), "n")
    assert "its event loop does not move, while it runs 'x'" in why(env, "x").text
    env.event(Heartbeat({}), "tcp://a:1")
    env.lose("a")
    assert why(env, "x").text == "its worker tcp://a:1 has vanished; the report of its nanny is awaited"


def test_what_went_wrong_before():
    env = TestEnv({"a": 1, "b": 1})
    env.submit(a_task("x"), options=[TaskOptions(retries=2)])
    env.raise_("x")
    assert why(env, "x").text.endswith("; retried: it has raised 1 time(s), and may raise 1 more")
    name = env.where("x")
    env.event(WorkerProcessExited(f"tcp://{name}:1", 0, signal=9), "nanny")
    assert why(env, "x").text.endswith(
        f"; 1 worker(s) died running it (allowed-failures: 3), the last one tcp://{name}:1: killed by signal 9"
    )


def test_ended():
    env = TestEnv({"a": 1})
    env.submit(a_task("x"), a_task("y", "x"), wanted=["y"])
    env.finish("x")
    assert why(env, "x").text == "finished; held by tcp://a:1"
    env.finish("y")
    assert why(env, "x").text == "nobody needs its value now; kept because results that were made of it are"
    env.submit(a_task("bad"), a_task("above", "bad"))
    env.raise_("bad")
    assert why(env, "bad").text == "failed: ValueError('boom')"
    assert why(env, "above").text == "failed because 'bad' did: ValueError('boom')"
