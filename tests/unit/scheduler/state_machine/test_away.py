"""Workers whose connection broke: they keep what they have, get nothing new, come back, or are given up."""

from __future__ import annotations

from distributed.messages.client_to_scheduler import TaskOptions
from distributed.messages.nanny import WorkerProcessExited
from distributed.messages.scheduler_to_worker import CloseWorkerOrder, PeerLost
from distributed.messages.worker_to_scheduler import MissingData, TaskFinished
from distributed.scheduler.state_machine.events import WorkerAway, WorkerBack, WorkerLost
from distributed.scheduler.state_machine.instructions import WorkerRemoved
from tests.unit.scheduler.state_machine.environment import TestEnv, a_task

A, B = "tcp://a:1", "tcp://b:1"
AT_A = [TaskOptions(), TaskOptions(workers=("a",))]


def test_nothing_new_nothing_stolen_nothing_run_again() -> None:
    with TestEnv({"a": 1, "b": 1}, worker_grace_s=30.0, suspect_s=None, lost_alone_s=None) as env:
        env.submit(a_task("x", options=1), options=AT_A)
        (order,) = env.computes("a")
        env.event(WorkerAway(A, "reset"))
        assert not env.worker("a").running and env.where("x") == "a"
        assert "is away: disconnected for 0 s (reset)" in env.state.explain("x").text
        env.submit(*[a_task(f"y-{i}") for i in range(6)])
        env.wait(25.0)
        assert len(env.computes("b")) and not env.sent("a") and not env.instructed()
        env.submit(a_task("z", options=1), options=AT_A)
        assert "away" in env.state.explain("z").text
        env.event(WorkerBack(A))
        assert env.worker("a").running
        env.event(TaskFinished("x", order.run_id, 10, 0.1), A)
        assert env.states()["x"] == "memory"
        assert next(one.key for one in env.computes("a")) == "z"
        env.ignore_all()


def test_after_the_grace_it_is_lost_and_its_runs_count_no_more() -> None:
    with TestEnv({"a": 1, "b": 1}, worker_grace_s=30.0, suspect_s=None, lost_alone_s=None) as env:
        env.submit(a_task("x"))
        (order,) = env.computes("a")
        env.event(WorkerAway(A, "reset"))
        env.wait(29.0)
        assert not env.instructed()
        env.wait(2.0)
        (removed,) = env.instructed()
        assert isinstance(removed, WorkerRemoved) and removed.n_rerun == 1
        assert removed.cause.startswith("reset; it has not come back within 3")
        (close,) = env.sent("a")
        assert isinstance(close, CloseWorkerOrder) and close.restart
        lost, again = env.sent("b")
        assert isinstance(lost, PeerLost) and again.key == "x" and again.run_id != order.run_id
        env.event(TaskFinished("x", order.run_id, 10, 0.1), A)
        assert env.states() == {"x": "processing"}
        env.ignore_all()


def test_a_death_that_is_known_ends_the_grace() -> None:
    for how in (WorkerLost(A, "its process has ended"), WorkerProcessExited(A, 0, signal=9)):
        with TestEnv({"a": 1, "b": 1}, worker_grace_s=30.0) as env:
            env.submit(a_task("x"))
            env.ignore_all()
            env.event(WorkerAway(A, "reset"))
            env.event(how)
            assert isinstance(env.instructed()[-1], WorkerRemoved) and env.where("x") == "b"
            env.ignore_all()


def test_without_a_grace_it_is_lost_at_once() -> None:
    with TestEnv({"a": 1}, worker_grace_s=0.0) as env:
        env.event(WorkerAway(A, "reset"))
        assert not env.state.workers
        env.ignore_all()


def test_what_only_it_holds_is_not_computed_again() -> None:
    with TestEnv({"a": 1, "b": 1}, worker_grace_s=30.0, suspect_s=None, lost_alone_s=None) as env:
        env.submit(a_task("x"))
        (order,) = env.computes("a")
        env.event(TaskFinished("x", order.run_id, 10, 0.1), A)
        env.event(WorkerAway(A, "reset"))
        env.event(MissingData("x", A, "no answer", unreached=True), B)
        assert env.states() == {"x": "memory"}
        env.event(WorkerBack(A))
        env.event(MissingData("x", A, "it is not here"), B)
        assert env.states() == {"x": "processing"}
        env.ignore_all()


def test_a_worker_of_the_same_name_takes_its_place() -> None:
    with TestEnv({"a": 1}, worker_grace_s=30.0) as env:
        env.event(WorkerAway(A, "reset"))
        env.join("a")
        assert len(env.state.workers) == 1 and env.worker("a").running
        env.ignore_all()
