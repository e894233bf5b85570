"""Messages that cross, found by the simulator: what one side has decided when the other's news arrives."""

from __future__ import annotations

from distributed.messages.client_to_scheduler import TaskOptions
from distributed.messages.nanny import WorkerProcessExited
from distributed.messages.payload import ErrorInfo
from distributed.messages.scheduler_to_worker import AcquireReplicas, StealRequest
from distributed.messages.worker_to_scheduler import (
    MissingData,
    ReplicasAdded,
    ReplicasDropped,
    StealResponse,
    TaskFinished,
    TaskRescheduled,
)
from distributed.scheduler.state_machine.events import MoveReplicas, SetResources
from tests.unit.scheduler.state_machine.environment import TestEnv, a_task

FAST = {"default_durations_s": {"x": 1e-4, "y": 1e-4}}


def test_a_move_ends_when_its_taker_gives_up() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.scatter("x", "a")
        env.ignore_all()
        env.event(MoveReplicas("x", ["tcp://b:1"], ["tcp://a:1"]))
        (order,) = env.sent("b")
        assert type(order) is AcquireReplicas and env.state.moves
        env.event(ReplicasDropped(["x"]), "tcp://b:1")
        assert not env.state.moves
        assert env.holders("x") == ["a"] and not env.sent("a")


def test_tasks_that_a_worker_can_no_longer_start_are_asked_back() -> None:
    with TestEnv({}) as env:
        env.join("a", resources={"GPU": 2.0})
        env.join("b", resources={"GPU": 2.0})
        env.submit(a_task("x", options=0), options=[TaskOptions(resources={"GPU": 2.0})])
        first = env.where("x")
        env.sent(first)
        run_id = env.task("x").run_id
        env.event(SetResources(f"tcp://{first}:1", {"GPU": 1.0}))
        (request,) = env.sent(first)
        assert type(request) is StealRequest and request.run_id == run_id
        env.event(StealResponse("x", run_id, True), f"tcp://{first}:1")
        assert env.where("x") != first
        env.ignore_all()


def test_data_is_not_given_up_because_one_worker_cannot_reach_it() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.scatter("x", "a")
        env.ignore_all()
        env.event(MissingData("x", "tcp://a:1", "connection refused", True), "tcp://b:1")
        assert env.holders("x") == ["a"] and not env.told() and not env.sent("a")
        env.event(MissingData("x", "tcp://a:1", "not there"), "tcp://b:1")
        (cancelled,) = env.told()
        assert cancelled.keys == ["x"] and cancelled.lost
        env.ignore_all()


def test_dependents_of_what_cannot_travel_still_need_their_resources() -> None:
    with TestEnv({}) as env:
        env.join("a")
        env.join("b", resources={"GPU": 1.0})
        env.submit(a_task("x"), options=[TaskOptions(workers=("a",))])
        env.finish("x", unshippable=ErrorInfo("TypeError", "no"))
        env.submit(a_task("y", "x"), options=[TaskOptions(resources={"GPU": 1.0})])
        assert env.task("y").state == "no-worker"
        assert "cannot leave" in env.state.explain("y").text
        env.event(SetResources("tcp://a:1", {"GPU": 1.0}))
        assert env.where("y") == "a"
        env.ignore_all()


def test_a_task_sent_ahead_that_killed_its_worker_is_blamed() -> None:
    """Its worker had the input, and died before that news got out."""
    with TestEnv({"a": 1}, allowed_failures=0, **FAST) as env:
        env.submit(a_task("x"), a_task("y", "x"), wanted=["y"])
        run_id = env.task("y").run_id
        assert env.task("y").state == "processing" and env.task("y").n_waiting
        env.event(WorkerProcessExited("tcp://a:1", 0, signal=11, executing=(run_id,)))
        assert env.task("y").state == "erred" and env.task("y").suspicious == 1
        assert env.task("x").suspicious == 0 if "x" in env.state.tasks else True
        env.ignore_all()


def test_a_refused_steal_is_not_asked_again() -> None:
    with TestEnv({"a": 1}, saturation=float("inf"), steal_backlog_s=0.01, steal_interval_s=0.1) as env:
        env.submit(*[a_task(f"x-{i}") for i in range(6)])
        env.sent("a")
        env.join("b")
        env.wait(0.11)
        asked = [m for m in env.sent("a") if type(m) is StealRequest]
        assert asked
        for request in asked:
            env.event(StealResponse(request.key, request.run_id, False), "tcp://a:1")
        env.wait(0.11)
        again = {m.key for m in env.sent("a") if type(m) is StealRequest}
        assert not again & {request.key for request in asked}
        env.ignore_all()


def test_a_late_report_does_not_cost_the_copy_that_was_fetched_since() -> None:
    """The worker was told to forget its value when the run was given up; what it holds by now came from elsewhere."""
    with TestEnv({"a": 1, "b": 1}) as env:
        env.submit(a_task("x"))
        name = env.where("x")
        (first,) = env.computes(name)
        env.event(TaskRescheduled("x", first.run_id), f"tcp://{name}:1")
        other = env.where("x")
        assert other != name
        env.finish("x")
        env.ignore_all()
        env.event(TaskFinished("x", first.run_id, 8, 0.1), f"tcp://{name}:1")
        assert env.sent(name) == [], "it may be fetching x for another task"
        env.event(ReplicasAdded([("x", 8)]), f"tcp://{name}:1")
        assert sorted(env.holders("x")) == ["a", "b"]
        env.release("x")
        assert [message.keys for holder in (name, other) for message in env.sent(holder)] == [["x"], ["x"]]
        env.ignore_all()
