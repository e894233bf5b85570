"""Where tasks go: inputs, load, restrictions, resources, statuses; stealing; retirement; explanations."""

from __future__ import annotations

import pytest

from distributed.messages.client_to_scheduler import SharedDependencies, TaskOptions, TaskSpec
from distributed.messages.control import RegisterWorker
from distributed.messages.scheduler_to_client import NoWorkerForTasks
from distributed.messages.scheduler_to_worker import (
    AcquireReplicas,
    CloseWorkerOrder,
    ComputeTask,
    RemoveReplicas,
    SetStatus,
    SharedNeeds,
    StealRequest,
)
from distributed.messages.worker_to_scheduler import Heartbeat, StealResponse, TaskLongRunning, WorkerStatus
from distributed.scheduler.state_machine import InvalidState
from distributed.scheduler.state_machine.data_plans import plan_rebalance, plan_replicate
from distributed.scheduler.state_machine.events import RetireWorkers, SetResources, SetThreads, WorkerJoined
from distributed.scheduler.state_machine.instructions import RetirementEnded, TasksUnrunnable, WorkerRefused

from .environment import TestEnv, a_task


def test_large_inputs_attract_small_ones_do_not() -> None:
    env = TestEnv({"a": 1, "b": 1})
    env.scatter("large", "a", nbytes=10**9)
    env.scatter("small", "a", nbytes=10)
    env.submit(a_task("busy"), options=[TaskOptions(workers=("a",))])
    env.submit(a_task("on-large", "large"), a_task("on-small", "small"))
    assert env.where("on-large") == "a"
    assert env.where("on-small") == "b"


def test_many_tasks_on_one_small_input_are_spread_and_queued() -> None:
    env = TestEnv({"a": 1, "b": 1})
    env.scatter("shared", "a")
    env.submit(*[a_task(("y", i), "shared") for i in range(20)])
    assert len(env.worker("a").processing) == len(env.worker("b").processing) == 2
    assert len(env.state.queued) == 16


def test_many_short_tasks_go_in_handfuls_to_some_workers_and_all_are_used_when_they_are_few() -> None:
    env = TestEnv({str(i): 1 for i in range(100)}, default_durations_s={"x": 1e-5})
    env.submit(*[a_task(("x", i)) for i in range(1000)])
    counts = sorted([len(ws.processing) for ws in env.state.workers.values()], reverse=True)
    assert sum(counts) == 1000
    assert counts[:8] == [125] * 8  # and not 10 for each of a hundred
    env.submit(*[a_task(("x-more", i)) for i in range(50)])
    assert sum([bool(ws.processing) for ws in env.state.workers.values()]) > 8


def test_many_long_tasks_go_to_all_workers() -> None:
    env = TestEnv({str(i): 1 for i in range(20)}, default_durations_s={"x": 0.1})
    env.submit(*[a_task(("x", i)) for i in range(1000)])
    assert {len(ws.processing) for ws in env.state.workers.values()} == {2}


def test_independent_chains_stay_where_they_began() -> None:
    env = TestEnv({"a": 1, "b": 1})
    env.submit(*[a_task(("x", i)) for i in range(4)], *[a_task(("y", i), ("x", i)) for i in range(4)])
    for i in range(4):
        home = env.where(("x", i))
        env.finish(("x", i), nbytes=10**6)
        assert env.where(("y", i)) == home
        env.finish(("y", i))


def test_many_holders_of_a_popular_input() -> None:
    names = [f"w{i}" for i in range(40)]
    env = TestEnv(dict.fromkeys(names, 1))
    env.scatter("popular", *names, nbytes=10**8)
    env.submit(a_task("y", "popular"))
    (compute,) = [m for m in env.sent(env.where("y")) if m.key == "y"]
    assert compute.needs[0].holders == ()


@pytest.mark.parametrize("wish", ["b", "tcp://b:1", "b:1", "hostb"])
def test_restriction_by_name_address_or_host(wish: str) -> None:
    env = TestEnv({"a": 4})
    env.join("b", host="hostb")
    env.submit(*[a_task(("x", i)) for i in range(3)], options=[TaskOptions(workers=(wish,))])
    assert {env.where(("x", i)) for i in range(3)} == {"b"}


def test_unmet_restriction_is_named_within_the_beat() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), options=[TaskOptions(workers=("nonesuch",))])
        assert env.states() == {"x": "no-worker"}
        why = env.state.explain("x")
        assert "nonesuch" in why.text and why.unsatisfied
        env.join("nonesuch")
        assert env.computed_keys("nonesuch") == ["x"]


def test_loose_restriction_is_only_a_preference() -> None:
    env = TestEnv({"a": 1, "b": 1})
    env.submit(a_task("x"), options=[TaskOptions(workers=("nonesuch",), allow_other_workers=True)])
    env.submit(a_task("y"), options=[TaskOptions(workers=("b",), allow_other_workers=True)])
    assert env.states()["x"] == "processing" and env.where("y") == "b"


def test_resources() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), options=[TaskOptions(resources={"GPU": 1})])
        assert env.states() == {"x": "no-worker"} and "GPU" in env.state.explain("x").text
        env.join("g", resources={"GPU": 2})
        assert env.worker("g").used_resources == {"GPU": 1}
        (compute,) = env.computes("g")
        assert compute.resources == {"GPU": 1}
        env.finish("x")
        assert env.worker("g").used_resources == {"GPU": 0}
        env.told()


def test_resources_set_later() -> None:
    env = TestEnv({"a": 1})
    env.submit(a_task("x"), options=[TaskOptions(resources={"GPU": 1})])
    env.event(SetResources("tcp://a:1", {"GPU": 1}))
    assert env.where("x") == "a"


def test_no_workers_timeout() -> None:
    with TestEnv({"a": 1}, no_workers_timeout_s=5.0, worker_ttl_s=None) as env:
        env.submit(a_task("x"), options=[TaskOptions(resources={"GPU": 1})])
        env.wait(4)
        assert env.states() == {"x": "no-worker"}
        assert [type(m) for m in env.told()] == [NoWorkerForTasks]
        assert [type(i) for i in env.instructed()] == [TasksUnrunnable]
        env.wait(2)
        (erred,) = env.told()
        assert erred.error.type_name == "NoValidWorkerError" and "GPU" in erred.error.message


def test_no_workers_timeout_without_any_worker() -> None:
    with TestEnv({"a": 1}, no_workers_timeout_s=5.0) as env:
        env.lose("a")
        env.ignore_all()
        env.submit(a_task("x"))
        env.wait(6)
        assert env.told()[0].error.type_name == "NoWorkerError"


def test_paused_workers_get_nothing_new() -> None:
    with TestEnv({"a": 1}) as env:
        env.event(WorkerStatus("paused"), "tcp://a:1")
        env.submit(a_task("x"))
        assert env.states() == {"x": "queued"} and "paused" in env.state.explain("x").text
        env.event(WorkerStatus("running"), "tcp://a:1")
        assert env.computed_keys("a") == ["x"]


def test_threads_may_change() -> None:
    env = TestEnv({"a": 1})
    env.submit(*[a_task(("x", i)) for i in range(10)])
    env.event(SetThreads("tcp://a:1", 4))
    assert len(env.worker("a").processing) == 5


def test_taken_name_is_refused() -> None:
    with TestEnv({"a": 1}) as env:
        env.event(WorkerJoined(RegisterWorker("tcp://elsewhere:1", "a", "elsewhere", 1)))
        (refused,) = env.instructed()
        assert isinstance(refused, WorkerRefused) and "name taken" in refused.reason
        assert list(env.state.workers) == ["tcp://a:1"]


def test_idle_and_saturated() -> None:
    env = TestEnv({"a": 1, "b": 1}, stealing=False)
    env.submit(*[a_task(("x", i)) for i in range(5)], options=[TaskOptions(workers=("a",))])
    assert list(env.state.idle) == ["tcp://b:1"] and list(env.state.saturated) == [env.worker("a")]


# Stealing


def a_skewed_cluster() -> TestEnv:
    """a has ten tasks because of their input, b came later."""
    env = TestEnv({"a": 1}, steal_interval_s=0.1)
    for i in range(10):
        env.scatter(f"data-{i}", "a", nbytes=10)
    env.submit(*[a_task(f"y-{i}", f"data-{i}") for i in range(10)])
    env.join("b")
    env.ignore_all()
    return env


def test_stealing_is_transactional() -> None:
    env = a_skewed_cluster()
    env.wait(0.15)
    requests = env.sent("a")
    assert requests and all(type(m) is StealRequest for m in requests)
    assert 3 <= len(requests) <= 5 and not env.worker("b").processing
    key = requests[0].key
    env.event(StealResponse(key, requests[0].run_id, True), "tcp://a:1")
    assert env.where(key) == "b" and env.task(key).run_id != requests[0].run_id
    assert env.computed_keys("b") == [key]
    key = requests[1].key
    env.event(StealResponse(key, requests[1].run_id, False), "tcp://a:1")
    assert env.where(key) == "a"
    env.check_claimed()


def test_stealing_spares_what_runs_and_what_is_bound() -> None:
    env = TestEnv({"a": 1})
    env.submit(*[a_task(("x", i)) for i in range(4)], options=[TaskOptions(workers=("a",))])
    env.join("b")
    env.ignore_all()
    env.wait(1)
    env.check_claimed()


def test_stolen_task_of_a_thief_that_died_is_placed_anew() -> None:
    env = a_skewed_cluster()
    env.wait(0.15)
    request = env.sent("a")[0]
    env.lose("b")
    env.event(StealResponse(request.key, request.run_id, True), "tcp://a:1")
    assert env.where(request.key) == "a"


def test_prefetched_tasks_that_turn_out_long_move() -> None:
    env = TestEnv({"a": 1})
    env.submit(*[a_task(("x", i)) for i in range(40)])
    for i in range(2):
        env.finish(("x", i), duration_s=1e-4)
    held = len(env.worker("a").processing)
    assert held > 30
    env.join("b")
    env.event(Heartbeat({}, [(("x", 2), 3.0)]), "tcp://a:1")
    env.sent("a")
    env.wait(0.2)
    assert len(env.sent("a")) >= 10


# Retirement


def test_retire_copies_sole_keys_first() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.scatter("x", "a")
        env.scatter("both", "a", "b")
        env.told()
        env.event(RetireWorkers(["tcp://a:1"]))
        assert env.sent("a") == [SetStatus("closing_gracefully")]
        (acquire,) = env.sent("b")
        assert isinstance(acquire, AcquireReplicas) and [n.key for n in acquire.needs] == ["x"]
        env.replica("x", "b", 100)
        (order,) = env.sent("a")
        assert isinstance(order, CloseWorkerOrder)
        assert env.instructed() == [RetirementEnded("tcp://a:1", True, "retired", 0)]


def test_retiring_worker_without_data_closes_at_once() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.event(RetireWorkers(["tcp://a:1"]))
        assert [type(m) for m in env.sent("a")] == [SetStatus, CloseWorkerOrder]
        assert env.instructed()[0].retired
        env.submit(*[a_task(("x", i)) for i in range(4)])
        assert {env.where(("x", i)) for i in range(2)} == {"b"}
        env.computes("b")


def test_retire_of_the_last_worker_tells_why_not() -> None:
    with TestEnv({"a": 1}) as env:
        env.scatter("x", "a")
        env.told()
        env.event(RetireWorkers(["tcp://a:1"]))
        (ended,) = env.instructed()
        assert not ended.retired and ended.n_left == 1 and "no other worker" in ended.reason
        assert [m.status for m in env.sent("a")] == ["closing_gracefully", "running"]
        env.submit(a_task("y"))
        assert env.computed_keys("a") == ["y"]


def test_recipient_dies_midway() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.scatter("x", "a")
        env.event(RetireWorkers(["tcp://a:1"]))
        env.join("c")
        env.ignore_all()
        env.lose("b")
        assert [type(m) for m in env.sent("c")] == [AcquireReplicas]
        env.replica("x", "c", 100)
        assert [type(m) for m in env.sent("a")] == [CloseWorkerOrder]
        env.instructed()


def test_retiring_worker_dies() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.scatter("x", "a")
        env.event(RetireWorkers(["tcp://a:1"]))
        env.ignore_all()
        env.lose("a")
        ended = env.instructed()[0]
        assert isinstance(ended, RetirementEnded) and not ended.retired and ended.n_left == 1
        env.ignore_all()


def test_retirement_has_a_deadline() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.scatter("x", "a")
        env.event(RetireWorkers(["tcp://a:1"], timeout_s=3.0))
        env.ignore_all()
        env.wait(4)
        (ended,) = env.instructed()
        assert not ended.retired and "'x'" in ended.reason and env.worker("a").status_name == "running"
        env.ignore_all()


def test_unknown_worker_cannot_retire() -> None:
    with TestEnv() as env:
        env.event(RetireWorkers(["tcp://gone:1"]))
        assert "no such worker" in env.instructed()[0].reason


# Moving data


def test_replicate() -> None:
    with TestEnv({"a": 1, "b": 1, "d": 1}) as env:
        env.scatter("x", "a")
        env.told()
        for move in plan_replicate(env.state, ["x"], 2):
            env.event(move)
        (name,) = [n for n in "abd" if env.to_workers.get(n)]
        assert [type(m) for m in env.sent(name)] == [AcquireReplicas]
        env.replica("x", name, 100)
        assert sorted(env.holders("x")) == ["a", name]
        for move in plan_replicate(env.state, ["x"], 1):
            env.event(move)
        (dropped,) = [m for n in "abd" for m in env.sent(n)]
        assert isinstance(dropped, RemoveReplicas) and len(env.holders("x")) == 1


def test_replicate_in_rounds() -> None:
    names = "abdefghij"
    with TestEnv(dict.fromkeys(names, 1)) as env:
        env.scatter("x", "a")
        env.told()
        n_copies = [1]
        while True:
            moves = plan_replicate(env.state, ["x"], branching_factor=2)
            for move in moves:
                env.event(move)
            takers = [name for name in names if env.to_workers.get(name)]
            for name in takers:
                env.sent(name)
                env.replica("x", name, 100)
            if not takers:
                break
            n_copies.append(len(env.holders("x")))
        assert n_copies == [1, 3, 9]


def test_rebalance_moves_and_then_drops() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        for i in range(10):
            env.scatter(f"x-{i}", "a")
        env.told()
        moves = plan_rebalance(env.state)
        assert 4 <= len(moves) <= 5
        for move in moves:
            env.event(move)
        fetched = [n.key for m in env.sent("b") for n in m.needs]
        for key in fetched:
            env.replica(key, "b", 100)
        assert all(env.holders(key) == ["b"] for key in fetched)
        assert all(type(m) is RemoveReplicas for m in env.sent("a"))


# Explanations and validation


def test_explanations() -> None:
    env = TestEnv({"a": 1})
    env.submit(*[a_task(("x", i)) for i in range(5)], a_task("z", ("x", 0), ("x", 4)))
    assert env.state.explain(("x", 4)).queued_behind == 2
    why = env.state.explain("z")
    assert why.n_waiting_on == 2 and why.waiting_on == [(("x", 0), "processing"), (("x", 4), "queued")]
    why = env.state.explain(("x", 1))
    assert why.worker == "tcp://a:1" and "1 task(s) of higher priority" in why.text
    assert "not known" in env.state.explain("nowhere").text
    env.finish(("x", 0))
    assert "held by tcp://a:1" in env.state.explain(("x", 0)).text
    assert env.state.explain(("x", 0)).since == env.now


def test_validate_names_task_worker_and_rule() -> None:
    env = TestEnv({"a": 1})
    env.submit(a_task("x"))
    env.worker("a").occupancy += 1
    with pytest.raises(InvalidState, match=r"occupancy is the sum of charges.*tcp://a:1"):
        env.state.validate()


def exchange(width: int) -> tuple[list[TaskSpec], list[SharedDependencies]]:
    """One round of an all-to-all exchange, as a client sends it."""
    parts = [a_task(("part", i)) for i in range(width)]
    totals = [a_task(("total", i)) for i in range(width)]
    return parts + totals, [SharedDependencies(tuple([task.key for task in parts]), [*range(width, 2 * width)])]


def test_dependencies_that_many_tasks_share_are_sent_once_to_each_worker() -> None:
    env = TestEnv({"a": 1, "b": 1})
    width = 12
    tasks, shared = exchange(width)
    env.submit(*tasks, shared=shared)
    one, two = env.task(("total", 0)), env.task(("total", 1))
    assert one.dependencies is two.dependencies and len(one.dependencies) == width
    env.state.validate()
    for i in range(width):
        env.sent("a"), env.sent("b")
        env.finish(("part", i))
    boxes = {name: env.sent(name) for name in "ab"}
    for name, box in boxes.items():
        (needs,) = [m for m in box if type(m) is SharedNeeds]
        orders = [m for m in box if type(m) is ComputeTask]
        assert len(orders) > 1 and all(m.shared and not m.needs for m in orders)
        assert [need.key for need in needs.needs] == list(shared[0].keys)
        here = [need.key for need in needs.needs if not need.holders]
        assert set(here) == {ts.key for ts in env.worker(name).has_what}


def test_a_task_among_the_dependencies_that_it_shares_is_lost() -> None:
    env = TestEnv({"a": 1})
    tasks, shared = exchange(10)
    own = ("part", 3)
    shared[0].tasks.append(3)
    env.submit(*tasks, shared=shared)
    assert own not in env.state.tasks and env.told()
    env.state.validate()


def test_dependencies_for_a_task_that_was_not_sent() -> None:
    env = TestEnv({"a": 1})
    with pytest.raises(ValueError, match="dependencies are for task number 1, of 1 that came"):
        env.submit(a_task("x"), shared=[SharedDependencies(("y",), [0, 1])])


# Slots of runs that nobody wants any more


@pytest.mark.parametrize("cancelled", [False, True])
def test_what_was_given_up_and_still_runs_holds_its_slot(cancelled: bool) -> None:
    env = TestEnv({"a": 1, "b": 1})
    env.submit(a_task("x"), options=[TaskOptions(workers=("a",))])
    if cancelled:
        env.cancel("x")
    else:
        env.release("x")
    assert env.worker("a").held_slots == 1 and "tcp://a:1" not in env.state.idle
    for i in range(3):
        env.submit(a_task(f"y-{i}"))
        assert env.where(f"y-{i}") == "b"
        env.finish(f"y-{i}")
    env.event(Heartbeat({}), "tcp://a:1")  # which may have been on its way
    assert env.worker("a").held_slots == 1
    env.wait(2)
    env.event(Heartbeat({}), "tcp://a:1")  # which knows that it has ended, or had not begun
    assert env.worker("a").held_slots == 0 and "tcp://a:1" in env.state.idle
    env.event(Heartbeat({}, held_slots=1), "tcp://a:1")
    assert "tcp://a:1" not in env.state.idle


def test_what_stands_behind_such_a_run_is_stolen() -> None:
    env = TestEnv({"a": 1, "b": 1}, default_durations_s={"y": 1e-3})
    for name in "ab":
        env.submit(a_task(f"x-{name}"), options=[TaskOptions(workers=(name,))])
    env.release("x-a")
    env.submit(a_task("y-1"), a_task("y-2"))
    assert {env.where("y-1"), env.where("y-2")} == {"a", "b"}
    (stuck,) = env.worker("a").processing
    env.sent("a")
    env.finish("x-b")
    (other,) = env.worker("b").processing
    env.finish(other.key)
    env.wait(env.state.settings.steal_interval_s)
    (request,) = [message for message in env.sent("a") if type(message) is StealRequest]
    env.event(StealResponse(stuck.key, request.run_id, True), "tcp://a:1")
    assert env.where(stuck.key) == "b"


def test_what_had_not_begun_holds_no_slot() -> None:
    env = TestEnv({"a": 1})
    env.submit(*[a_task(("x", i)) for i in range(2)])
    assert len(env.worker("a").processing) == 2
    env.release(("x", 1))
    assert env.worker("a").held_slots == 0
    env.release(("x", 0))
    assert env.worker("a").held_slots == 1


def test_a_task_that_has_left_its_slot_holds_none() -> None:
    env = TestEnv({"a": 1})
    env.submit(a_task("x"))
    env.event(TaskLongRunning("x", env.task("x").run_id, 0.1), "tcp://a:1")
    env.release("x")
    assert env.worker("a").held_slots == 0
