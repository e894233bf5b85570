"""Inputs from peers: batches, choice of holder, failover, missing keys, replicas, freeing under way."""

from __future__ import annotations

from distributed.messages.scheduler_to_worker import (
    AcquireReplicas,
    HoldersChanged,
    RemoveReplicas,
    SharedNeeds,
    TaskNeed,
)
from distributed.messages.worker_to_scheduler import (
    MissingData,
    ReplicasAdded,
    ReplicasDropped,
    TaskErred,
    TaskFinished,
    WhoHas,
    WorkerStatus,
)
from distributed.worker.state_machine.events import (
    DataLost,
    DataUpdated,
    GatherDepFailure,
    GatherDepSuccess,
    Pause,
)
from distributed.worker.state_machine.instructions import (
    CancelExecute,
    Evict,
    Execute,
    GatherDep,
    StoreFetched,
    StoreResult,
)
from tests.unit.worker.state_machine.env import (
    ERROR,
    ME,
    NEAR,
    A,
    B,
    a_task,
    arrived,
    free,
    success,
    unreachable,
)


def holders(key: str, *workers: str) -> HoldersChanged:
    return HoldersChanged([TaskNeed(key, workers, 8)])


def test_fetch_then_run(env):
    env.send(a_task("y", 1, ("x", A), ("w", A)))
    request = env.claim(GatherDep)
    assert (request.worker, request.keys, request.total_nbytes) == (A, ["x", "w"], 16)
    env.now = 2.0
    env.send()
    explanation = env.state.explain("x")
    assert explanation.fetching_from == A
    assert env.state.explain("y").waiting_on == {"x": "flight", "w": "flight"}
    env.send(arrived(A, "x", "w"))
    assert env.claim(StoreFetched).keys == ["x", "w"]
    assert env.claim(ReplicasAdded).keys == [("x", 8), ("w", 8)]
    assert env.claim(Execute).dependencies == ["x", "w"]


def test_one_request_a_peer_bounded_by_bytes(make_env):
    env = make_env(gather_nbytes=20)
    env.send(*[a_task(f"y{i}", i, (f"x{i}", A)) for i in range(1, 6)])
    assert env.gathered() == {A: ["x1", "x2"]}
    assert "busy" in env.state.explain("x3").text
    env.send(arrived(A, "x1", "x2"))
    assert env.gathered() == {A: ["x3", "x4"]}
    env.claim(StoreFetched), env.claim(ReplicasAdded), env.claim(Execute)


def test_a_key_larger_than_a_batch_goes_alone(make_env):
    env = make_env(gather_nbytes=4)
    env.send(a_task("y1", 1, ("x1", A)), a_task("y2", 2, ("x2", A)))
    assert env.gathered() == {A: ["x1"]}


def test_inputs_of_urgent_tasks_come_first(make_env):
    env = make_env(gather_nbytes=4)
    env.send(a_task("late", 1, ("a", A), rank=9), a_task("early", 2, ("b", A), rank=1))
    assert env.gathered() == {A: ["b"]}


def test_at_most_so_many_fetches(make_env):
    env = make_env(max_gathers=2)
    env.send(*[a_task(f"y{i}", i, (f"x{i}", f"tcp://h{i}:1")) for i in range(1, 6)])
    assert env.gathered() == {"tcp://h1:1": ["x1"], "tcp://h2:1": ["x2"]}
    env.send(arrived("tcp://h1:1", "x1"))
    assert env.gathered() == {"tcp://h3:1": ["x3"]}
    env.claim(StoreFetched), env.claim(ReplicasAdded), env.claim(Execute)


def test_pause_slows_fetches(env):
    env.send(Pause(), a_task("y", 1, ("x1", A), ("x2", B))).claim(WorkerStatus)
    assert len(env.gathered()) == 1


def test_a_holder_on_this_host_is_preferred(env):
    env.send(a_task("y", 1, ("x", A, NEAR, B)))
    assert env.gathered() == {NEAR: ["x"]}


def test_chance_spreads_over_holders_and_is_seeded(make_env):
    def chosen() -> list[str]:
        env = make_env()
        peers = []
        for i in range(1, 20):
            env.send(a_task(f"y{i}", i, (f"x{i}", A, B)))
            (peer,) = env.gathered()
            peers.append(peer)
            env.send(arrived(peer, f"x{i}"))
            env.claim(StoreFetched), env.claim(ReplicasAdded), env.executed()
        return peers

    first = chosen()
    assert set(first) == {A, B}
    assert first == chosen()


def test_failover_to_the_other_holder(env):
    env.send(a_task("y", 1, ("x", A, B)))
    (first,) = env.gathered()
    env.send(unreachable(first, "x"))
    second = B if first == A else A
    assert env.gathered() == {second: ["x"]}
    env.send(GatherDepSuccess(second, {}))  # it answers that it does not have it
    reports = env.claim_all(MissingData)
    assert [(r.key, r.holder) for r in reports] == [("x", second), ("x", first)]
    assert "refused" in reports[1].reason
    assert env.claim(WhoHas).keys == ["x"]
    assert "the scheduler is asked" in env.state.explain("x").text


def test_missing_is_asked_again_until_answered(env):
    env.send(a_task("y", 1, ("x", A))).gathered()
    env.send(unreachable(A, "x"))
    env.claim(MissingData), env.claim(WhoHas)
    env.wait(2)
    assert len(env.claim_all(WhoHas)) == 2  # after 0.5 s, after 1.5 s
    env.wait(100)
    assert 15 < len(env.claim_all(WhoHas)) < 25
    env.send(holders("x"))
    assert env.states()["x"] == "missing"
    env.send(holders("x", B))
    assert env.gathered() == {B: ["x"]}
    env.send(arrived(B, "x"))
    env.claim(StoreFetched), env.claim(ReplicasAdded), env.claim(Execute)


def test_a_peer_that_cannot_be_reached_is_left_alone_for_a_while(env):
    env.send(a_task("y", 1, ("x", A))).gathered()
    for pause_s in (0.1, 0.2, 0.4):
        env.send(unreachable(A, "x"), holders("x", A))
        env.claim_all(MissingData), env.claim_all(WhoHas)
        assert "could not be reached (refused)" in env.state.explain("x").text
        env.wait(pause_s * 0.9)
        assert env.gathered() == {}
        env.wait(pause_s * 0.2)
        assert env.gathered() == {A: ["x"]}
    env.send(arrived(A, "x"))
    env.claim(StoreFetched), env.claim(ReplicasAdded), env.claim(Execute)
    assert not env.state.fetches.suspects


def test_keys_that_the_peer_says_it_lacks_in_a_failure(env):
    env.send(a_task("y", 1, ("x", A, B), ("w", A, B)))
    ((first, keys),) = env.gathered().items()
    assert keys == ["x", "w"]
    env.send(GatherDepFailure(first, keys, ["x"], "cut"))
    assert env.claim(MissingData).key == "x"
    assert list(env.gathered().values()) == [["x", "w"]]


def test_a_peer_that_fails_twice_is_given_up_by_all_that_wait_for_it_alone(make_env):
    env = make_env(gather_nbytes=1)
    env.send(AcquireReplicas([TaskNeed("x", (A,), 8), TaskNeed("w", (A,), 8), TaskNeed("v", (A,), 8)]))
    ((_, first),) = env.gathered().items()
    env.send(unreachable(A, *first))
    assert [m.keys for m in env.claim_all(ReplicasDropped)] == [first]
    env.claim(MissingData)
    env.wait(1.0)
    ((_, second),) = env.gathered().items()
    env.send(unreachable(A, *second))
    assert len(env.claim_all(MissingData)) == 2
    assert sum([len(m.keys) for m in env.claim_all(ReplicasDropped)]) == 2
    assert not env.states()


def test_an_input_said_to_be_here_that_is_not(env):
    env.send(a_task("y", 1, ("x", ME)))
    assert env.claim(MissingData).holder == ME
    assert env.claim(WhoHas).keys == ["x"]


def test_an_input_without_holders_is_asked_for(env):
    env.send(a_task("y", 1, "x"))
    assert env.claim(WhoHas).keys == ["x"]


def test_an_unreadable_input_fails_its_dependents_but_no_others(env):
    env.send(a_task("y", 1, ("x", A)), a_task("z", 2, ("x", A), ("v", A)), a_task("w", 3, ("v", A))).gathered()
    env.send(GatherDepSuccess(A, {"v": 8}, {"x": ERROR}))
    reports = env.claim_all(TaskErred)
    assert [(r.key, r.retriable, r.error) for r in reports] == [("y", False, ERROR), ("z", False, ERROR)]
    assert env.executed() == ["w"]
    assert env.states() == {"w": "executing", "v": "memory"}
    env.claim(StoreFetched), env.claim(ReplicasAdded)


def test_free_the_task_whose_input_is_in_flight(env):
    env.send(a_task("y", 1, ("x", A))).gathered()
    env.send(free("y"))
    assert env.states() == {"x": "cancelled"}
    env.send(arrived(A, "x"))  # dropped
    assert env.states() == {}


def test_a_flight_given_up_and_wanted_again_is_resumed(env):
    env.send(a_task("y", 1, ("x", A))).gathered()
    env.send(free("y"), a_task("z", 2, ("x", A, B)))
    assert env.states() == {"x": "resumed", "z": "waiting"}
    env.send(unreachable(A, "x"))
    assert env.gathered() == {B: ["x"]}
    env.send(arrived(B, "x"))
    env.claim(StoreFetched), env.claim(ReplicasAdded)
    assert env.executed() == ["z"]


def test_free_the_task_whose_input_waits_to_be_fetched_or_is_missing(make_env):
    env = make_env(max_gathers=0)
    env.send(a_task("y", 1, ("x", A)), a_task("z", 2, "w")).claim(WhoHas)
    env.send(free("y", "z"))
    assert env.states() == {}
    env.wait(10)


def test_an_input_in_flight_becomes_a_task_of_this_worker(env):
    env.send(a_task("y", 1, ("x", A))).gathered()
    env.send(a_task("x", 2))
    assert env.executed() == ["x"]
    env.send(arrived(A, "x"))  # too late: dropped
    env.send(success("x", 2))
    assert env.executed() == ["y"]
    env.claim(StoreResult), env.claim(TaskFinished)


def test_a_key_with_a_stale_run_is_fetched(env):
    env.send(a_task("x", 1)).executed()
    env.send(free("x"), a_task("y", 2, ("x", A)))
    env.claim(CancelExecute)
    assert env.gathered() == {A: ["x"]}
    env.send(arrived(A, "x"))
    env.claim(StoreFetched), env.claim(ReplicasAdded)
    env.send(success("x", 1))
    assert env.executed() == ["y"]
    assert env.states() == {"x": "memory", "y": "executing"}


def test_a_freed_value_that_a_waiting_task_needs_is_looked_for(env):
    env.send(DataUpdated({"x": 8}), a_task("busy", 1), a_task("y", 2, "x")).executed()
    env.send(free("x"))
    env.claim(Evict)
    assert env.states() == {"x": "missing", "busy": "executing", "y": "waiting"}
    env.wait(1).claim(WhoHas)
    env.send(holders("x", A)).gathered()
    env.send(arrived(A, "x"))
    assert env.states()["y"] == "ready"
    env.claim(StoreFetched), env.claim(ReplicasAdded)


def test_a_freed_value_of_a_running_task(env):
    env.send(DataUpdated({"x": 8}), a_task("y", 2, "x")).executed()
    env.send(free("x")).claim(Evict)
    assert env.states() == {"x": "released", "y": "executing"}
    env.send(success("y", 2))
    assert env.states() == {"y": "memory"}
    env.claim(StoreResult), env.claim(TaskFinished)


def test_remove_replicas_refuses_what_is_needed(env):
    env.send(DataUpdated({"x": 8, "w": 8}), a_task("y", 1, "x")).executed()
    env.send(RemoveReplicas(["x", "w", "unknown"]))
    assert env.claim(ReplicasAdded).keys == [("x", 8)]
    dropped = env.claim(ReplicasDropped)
    assert dropped.keys == ["w", "unknown"] and dropped.as_ordered
    assert env.claim(Evict).keys == ["w"]


def test_remove_replicas_refuses_actors_and_what_cannot_leave(make_env):
    env = make_env(nthreads=2)
    env.send(a_task("a", 1, actor=True), a_task("b", 2)).executed()
    env.send(success("a", 1), success("b", 2, unshippable=ERROR)).executed()
    assert [r.unshippable for r in env.claim_all(TaskFinished)] == [None, ERROR]
    env.claim_all(StoreResult)
    env.send(RemoveReplicas(["a", "b"]))
    assert env.claim(ReplicasAdded).keys == [("a", 8), ("b", 8)]


def test_acquire_replicas(env):
    env.send(DataUpdated({"h": 3}), AcquireReplicas([TaskNeed("x", (A,), 8), TaskNeed("h", (A,), 8)]))
    assert env.gathered() == {A: ["x"]}
    assert env.claim(ReplicasAdded).keys == [("h", 3)]
    env.send(arrived(A, "x"))
    assert env.claim(ReplicasAdded).keys == [("x", 8)]
    env.claim(StoreFetched)


def test_an_acquisition_that_fails_is_reported_and_given_up(env):
    env.send(AcquireReplicas([TaskNeed("x", (A,), 8), TaskNeed("z", (), 8)])).gathered()
    assert env.claim(ReplicasDropped).keys == ["z"]
    env.send(unreachable(A, "x"))
    assert env.claim(MissingData).holder == A
    assert env.claim(ReplicasDropped).keys == ["x"]
    assert env.states() == {}
    env.wait(10)


def test_an_acquisition_is_taken_back(env):
    env.send(AcquireReplicas([TaskNeed("x", (A,), 8)])).gathered()
    env.send(RemoveReplicas(["x"]))
    dropped = env.claim(ReplicasDropped)
    assert dropped.keys == ["x"] and not dropped.as_ordered, "a copy that will not come is taken for an older one"
    env.send(arrived(A, "x"))
    assert env.states() == {}


def test_scattered_data(env):
    env.send(a_task("y", 1, "x")).claim(WhoHas)
    env.send(DataUpdated({"x": 8}))
    assert env.executed() == ["y"]
    env.send(DataUpdated({"x": 10, "z": 1}, report=True))
    assert env.claim(ReplicasAdded).keys == [("x", 10), ("z", 1)]
    assert env.state.managed_nbytes == 11


def test_lost_data_is_reported_and_asked_for(env):
    env.send(DataUpdated({"x": 8, "w": 8}), a_task("busy", 1), a_task("y", 2, "x")).executed()
    env.send(DataLost(["x", "w"], "bad block"))
    assert env.claim(ReplicasDropped).keys == ["x", "w"]
    assert env.claim(WhoHas).keys == ["x"]
    assert env.states() == {"x": "missing", "busy": "executing", "y": "waiting"}


def test_replicas_added_and_dropped_keep_their_order(env):
    env.send(DataUpdated({"x": 1}, report=True), RemoveReplicas(["x"]), DataUpdated({"x": 1}, report=True))
    assert [type(item).__name__ for item in env.open] == ["Evict", "ReplicasAdded", "ReplicasDropped", "ReplicasAdded"]
    env.open.clear()


def test_holders_changed_while_planned_and_in_flight(make_env):
    env = make_env(gather_nbytes=8)
    env.send(a_task("y", 1, ("x", A), ("w", A)))
    assert env.gathered() == {A: ["x"]}
    env.send(holders("w", B))
    assert env.gathered() == {B: ["w"]}
    env.send(holders("x", NEAR))
    env.send(unreachable(A, "x"))
    assert env.gathered() == {NEAR: ["x"]}


def test_an_answer_nobody_asked_for_is_ignored(env):
    env.send(arrived(A, "x"), unreachable(B, "x"), success("x", 9))
    assert env.states() == {}


def test_tasks_that_share_their_needs(env):
    needs = SharedNeeds(tuple([TaskNeed(key, (A,), 8) for key in ("x", "w", "v")]))
    env.send(
        needs, a_task("y1", 1, shared=True), a_task("y2", 2, shared=True), a_task("urgent", 3, rank=0, shared=True)
    )
    assert env.gathered() == {A: ["x", "w", "v"]}
    assert env.state.tasks["y1"].dependencies is env.state.tasks["urgent"].dependencies
    assert env.state.tasks["x"].priority == (0.0, 0.0, 0)
    env.send(arrived(A, "x", "w", "v"))
    env.claim(StoreFetched), env.claim(ReplicasAdded)
    (run,) = env.claim_all(Execute)
    assert run.key == "urgent" and run.dependencies == ["x", "w", "v"]


def test_shared_needs_that_were_forgotten_meanwhile(env):
    env.send(SharedNeeds((TaskNeed("x", (A,), 8), TaskNeed("w", (), 8))), a_task("y1", 1, shared=True), free("y1"))
    assert set(env.states().values()) <= {"cancelled", "forgotten", "missing"}
    env.claim_all(WhoHas), env.claim_all(GatherDep)
    env.send(a_task("y2", 2, shared=True))
    assert [dep.key for dep in env.state.tasks["y2"].dependencies] == ["x", "w"]
    assert all(env.state.tasks[dep.key] is dep for dep in env.state.tasks["y2"].dependencies)
    env.claim_all(WhoHas), env.claim_all(GatherDep)
