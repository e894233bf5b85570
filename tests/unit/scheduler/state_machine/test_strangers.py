"""Messages that come late, twice or from strangers change nothing; what nobody expects is dropped where it lies."""

from __future__ import annotations

from typing import Any

import pytest

from distributed.messages import client_to_scheduler as from_client
from distributed.messages import worker_to_scheduler as from_worker
from distributed.messages.nanny import WorkerProcessExited, WorkerProcessStarted, WorkerVouched
from distributed.messages.scheduler_to_worker import FreeKeys
from distributed.scheduler.state_machine import events as ev
from distributed.scheduler.state_machine.instructions import RetirementEnded, WorkerRefused
from tests.unit.scheduler.state_machine.environment import BOOM, TestEnv, a_task, a_worker

FAR = "tcp://far:1"


def everything(env: TestEnv) -> Any:
    state = env.state
    return (env.states(), [(ws.address, ws.status_name, list(ws.processing)) for ws in state.workers.values()])


@pytest.mark.parametrize(
    "event",
    [
        from_worker.TaskFinished("x", 1, 10, 0.1),
        from_worker.TaskErred("x", 1, BOOM),
        from_worker.TaskRescheduled("x", 1),
        from_worker.TaskLongRunning("x", 1, 0.1),
        from_worker.StealResponse("x", 1, True),
        from_worker.ReplicasAdded([("x", 10)]),
        from_worker.ReplicasDropped(["x"]),
        from_worker.MissingData("x", FAR),
        from_worker.WhoHas(["x"]),
        from_worker.WorkerStatus("paused"),
        from_worker.Heartbeat({}, [("x", 1.0)]),
        from_worker.WorkerClosing(),
        from_worker.WorkerLogEvent(("topic",), "text"),
        WorkerProcessStarted(FAR, 1),
        WorkerProcessExited(FAR, 1, signal=9),
        WorkerVouched(FAR, 1, 5.0, "running", ()),
        ev.WorkerLost(FAR),
        ev.SetThreads(FAR, 2),
        ev.SetResources(FAR, {"GPU": 1}),
        ev.MoveReplicas("nothing", [FAR], []),
        from_client.ClientLogEvent(("topic",), "text"),
        from_client.ClientHeartbeat(),
        from_client.ClientClosing(),
        from_client.WantKeys(["x"]),
        from_client.ReleaseKeys(["x"]),
        from_client.CancelKeys(["x"]),
        from_client.RetryKeys(["nothing"]),
        from_client.UpdateGraph(1, [a_task("new")]),
        ev.ClientLeft("stranger"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_a_stranger_changes_nothing(event):
    env = TestEnv({"a": 1})
    env.submit(a_task("x"))
    env.ignore_all()
    before = everything(env)
    env.event(event, FAR if type(event).__module__.endswith("worker_to_scheduler") else "stranger")
    assert everything(env) == before
    env.check_claimed()


@pytest.mark.parametrize(
    "event",
    [
        from_worker.TaskErred("x", 0, BOOM),
        from_worker.TaskRescheduled("x", 0),
        from_worker.TaskLongRunning("x", 0, 0.1),
        from_worker.StealResponse("x", 0, True),
        from_worker.TaskFinished("x", 0, 10, 0.1),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_older_run_changes_nothing(event):
    env = TestEnv({"a": 1})
    env.submit(a_task("x"))
    env.ignore_all()
    before = everything(env)
    env.event(event, "tcp://a:1")
    assert everything(env) == before
    env.check_claimed()


def test_a_result_that_nobody_expects_is_dropped_where_it_lies():
    with TestEnv({"a": 1, "b": 1}) as env:
        env.event(from_worker.TaskFinished("unknown", 7, 10, 0.1), "tcp://a:1")
        assert env.freed("a") == ["unknown"]
        env.submit(a_task("x"))
        env.ignore_all()
        other = "b" if env.where("x") == "a" else "a"
        env.event(from_worker.TaskFinished("x", 0, 10, 0.1), f"tcp://{other}:1")
        assert env.freed(other) == ["x"]


def test_a_repeated_report_that_a_task_seceded_counts_once():
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"))
        env.ignore_all()
        event = from_worker.TaskLongRunning("x", env.task("x").run_id, 0.1)
        env.event(event, "tcp://a:1")
        env.event(event, "tcp://a:1")
        assert list(env.worker("a").long_running) == [env.task("x")]


def test_who_has():
    """Known holders are named; a key that nobody knows is to be freed, unless it runs there now."""
    with TestEnv({"a": 1, "b": 1}) as env:
        env.submit(a_task("x"))
        env.finish("x", "a")
        env.submit(a_task("z"))
        env.ignore_all()
        runs_z = env.where("z")
        env.event(from_worker.WhoHas(["x", "unknown", "z"]), f"tcp://{runs_z}:1")
        freed, holders = env.sent(runs_z)
        assert (type(freed), freed.keys) == (FreeKeys, ["unknown"])
        assert [(need.key, need.holders) for need in holders.needs] == [("x", ("tcp://a:1",))]


def test_a_taken_name_is_refused():
    with TestEnv({"a": 1}) as env:
        env.event(ev.WorkerJoined(a_worker("a", host="other")), "tcp://a:1")  # the same address: a new process
        env.ignore_all()
        info = a_worker("d")
        info.name = "a"
        env.event(ev.WorkerJoined(info), info.address)
        (refused,) = env.instructed()
        assert type(refused) is WorkerRefused
        assert "'a'" in refused.reason


def test_a_retirement_of_nobody_and_twice():
    with TestEnv({"a": 1, "b": 1}) as env:
        env.event(ev.RetireWorkers([FAR]))
        (ended,) = env.instructed()
        assert (type(ended), ended.retired, ended.n_left) == (RetirementEnded, False, 0)
        env.submit(a_task("x"))
        env.finish("x", "a")
        env.ignore_all()
        env.event(ev.RetireWorkers(["tcp://a:1"]), flush=False)
        env.event(ev.RetireWorkers(["tcp://a:1"]))
        env.ignore_all()
        env.event(ev.WorkerLost("tcp://a:1"))
        ended, _ = env.instructed()
        assert not ended.retired
        assert ended.n_left == 1
        env.ignore_all()


def test_a_copy_that_fails_again_and_again_ends_the_retirement():
    with TestEnv({"a": 1, "b": 1}) as env:
        env.submit(a_task("x"))
        env.finish("x", "a")
        env.ignore_all()
        env.event(ev.RetireWorkers(["tcp://a:1"]))
        for _ in range(20):
            asked = env.sent("b")
            if not asked:
                break
            env.event(from_worker.ReplicasDropped(["x"]), "tcp://b:1")
        (ended,) = env.instructed()
        assert not ended.retired
        assert "'x'" in ended.reason
        assert env.worker("a").running
        env.ignore_all()


class TestFunctions:
    def test_they_go_with_the_last_client_that_vouches_for_them(self):
        env = TestEnv({"a": 1}, "cd")
        env.submit(a_task("x"))
        assert b"digest" in env.state.functions
        env.event(ev.ClientLeft("d"))
        assert b"digest" in env.state.functions
        env.event(ev.ClientLeft("c"))
        assert not env.state.functions

    def test_they_stay_while_a_task_has_them(self):
        env = TestEnv({"a": 1}, "cd")
        env.submit(a_task("x"))
        env.event(from_client.WantKeys(["x"]), "d")
        env.event(ev.ClientLeft("c"))
        assert b"digest" in env.state.functions
        env.event(ev.ClientLeft("d"))
        assert not env.state.functions

    def test_a_client_that_joins_twice_keeps_its_wishes(self):
        env = TestEnv({"a": 1})
        env.submit(a_task("x"))
        env.event(ev.ClientJoined("c"))
        assert env.states() == {"x": "processing"}


class TestMoves:
    def test_a_copy_that_is_there_is_not_fetched_again(self):
        with TestEnv({"a": 1, "b": 1}) as env:
            env.scatter("x", "a", "b")
            env.ignore_all()
            env.event(ev.MoveReplicas("x", ["tcp://b:1"], ["tcp://a:1"]))
            (order,) = env.sent("a")
            assert order.keys == ["x"]
            assert env.holders("x") == ["b"]

    def test_the_last_copy_is_never_dropped(self):
        with TestEnv({"a": 1, "b": 1}) as env:
            env.scatter("x", "a")
            env.ignore_all()
            env.event(ev.MoveReplicas("x", [], ["tcp://a:1"]))
            assert env.holders("x") == ["a"]

    def test_a_taker_that_goes_is_not_waited_for(self):
        env = TestEnv({"a": 1, "b": 1, "d": 1})
        env.scatter("x", "a")
        env.event(ev.MoveReplicas("x", ["tcp://b:1", "tcp://d:1"], ["tcp://a:1"]))
        env.lose("b")
        env.replica("x", "d", 100)
        assert env.holders("x") == ["d"]
        assert not env.state.moves

    @pytest.mark.parametrize("as_ordered", [True, False])
    def test_the_answer_to_an_older_order_ends_no_copying(self, as_ordered):
        """A worker that was told to drop a copy is asked for a new one before it has answered."""
        env = TestEnv({"a": 1, "b": 1})
        env.scatter("x", "a", "b")
        env.event(ev.MoveReplicas("x", [], ["tcp://a:1"]))
        env.event(ev.MoveReplicas("x", ["tcp://a:1"], [], 2))
        env.event(from_worker.ReplicasDropped(["x"], as_ordered), "tcp://a:1")
        assert bool(env.state.moves) is as_ordered
        env.replica("x", "a", 100)
        assert env.holders("x") == ["b", "a"] and not env.state.moves

    def test_two_orders_to_one_worker_travel_together(self):
        with TestEnv({"a": 1, "b": 1}) as env:
            env.scatter("x", "a")
            env.scatter("y", "a")
            env.ignore_all()
            env.event(ev.MoveReplicas("x", ["tcp://b:1"], []), flush=False)
            env.event(ev.MoveReplicas("y", ["tcp://b:1"], []))
            (order,) = env.sent("b")
            assert [need.key for need in order.needs] == ["x", "y"]

    def test_the_size_of_a_copy_fills_in_an_unknown_one(self):
        env = TestEnv({"a": 1, "b": 1})
        env.scatter("x", "a", nbytes=-1)
        env.replica("x", "b", 70)
        assert [env.worker(name).nbytes for name in "ab"] == [70, 70]

    def test_data_scattered_by_a_client_that_has_left_is_dropped(self):
        with TestEnv({"a": 1}, "c") as env:
            env.scatter("x", "a", client="gone")
            assert env.freed("a") == ["x"]

    def test_data_scattered_to_workers_that_are_gone_is_lost(self):
        with TestEnv({"a": 1}) as env:
            env.scatter("x", "far")
            (cancelled,) = env.told()
            assert cancelled.keys == ["x"]
            assert "lost" in cancelled.reason
            assert not env.state.tasks
