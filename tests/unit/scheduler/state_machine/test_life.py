"""One task's life: placing, finishing, releasing; dependencies; priorities; the queue."""

from __future__ import annotations

import pytest

from distributed.messages.client_to_scheduler import (
    CancelKeys,
    FireAndForget,
    ReleaseKeys,
    TaskOptions,
    UpdateGraph,
    WantKeys,
)
from distributed.messages.payload import Payload
from distributed.messages.scheduler_to_client import KeyInMemory, KeysCancelled
from distributed.messages.scheduler_to_worker import ComputeTask, DefineFunction, FreeKeys, TaskNeed
from distributed.messages.worker_to_scheduler import Heartbeat, TaskFinished, TaskLongRunning, TaskRescheduled
from distributed.scheduler.state_machine import SchedulerSettings, SchedulerState
from distributed.scheduler.state_machine.events import ClientJoined, ClientLeft, WorkerJoined
from distributed.scheduler.state_machine.instructions import ClientRemoved, LogWarning

from .environment import FUNCTION, TestEnv, a_task, a_worker


def test_submit_finish_release() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"))
        (compute,) = env.computes("a")
        assert (compute.key, compute.function, compute.wanted, compute.needs) == ("x", b"digest", True, ())
        env.finish("x", inline=Payload(b"2"))
        assert env.told() == [KeyInMemory("x", "int", Payload(b"2"), ("tcp://a:1",), 10)]
        assert env.holders("x") == ["a"] and env.worker("a").nbytes == 10
        env.release("x")
        assert env.freed("a") == ["x"]
        assert not env.state.tasks and not env.state.task_groups


def test_function_is_sent_once_a_worker() -> None:
    state = SchedulerState(SchedulerSettings())
    state.handle(ClientJoined("c"), "c", 0)
    state.handle(WorkerJoined(a_worker("a", 4)), "", 0)
    state.handle(UpdateGraph(1, [a_task("x"), a_task("y")], [FUNCTION]), "c", 0)
    state.flush(0)
    box = state.outbox.take().to_workers["tcp://a:1"]
    assert [type(m) for m in box] == [DefineFunction, ComputeTask, ComputeTask]


def test_dependents_start_when_inputs_are_there() -> None:
    with TestEnv({"a": 2}) as env:
        env.submit(a_task("x"), a_task("y"), a_task("z", "x", "y"))
        assert env.computed_keys("a") == ["x", "y"]
        assert env.task("z").waiting_on == {env.task("x"), env.task("y")}
        assert env.task("x").waiters == {env.task("z")}
        env.finish("x")
        assert env.states()["z"] == "waiting"
        env.finish("y", nbytes=7)
        (compute,) = env.computes("a")
        assert compute.needs == (TaskNeed("x", (), 10), TaskNeed("y", (), 7))
        assert len(env.told()) == 2


def test_inputs_elsewhere_are_named_with_their_holders() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.submit(a_task("x"), a_task("y"))
        env.finish("x", nbytes=1000)
        env.finish("y", nbytes=1)
        env.ignore_all()
        env.submit(a_task("z", "x", "y"))
        name = env.where("z")
        assert env.holders("x") == [name]
        (compute,) = env.computes(name)
        assert compute.needs[1].holders == (f"tcp://{env.holders('y')[0]}:1",)


def test_intermediate_results_are_released_when_used() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), a_task("y", "x"), wanted=["y"])
        env.finish("x")
        env.ignore_all()
        env.finish("y")
        assert env.freed("a") == ["x"]
        assert env.states() == {"x": "released", "y": "memory"}
        env.told()
        env.release("y")
        assert env.freed("a") == ["y"] and not env.state.tasks


def test_unneeded_tasks_of_a_graph_are_never_run() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), a_task("unused", "x"), a_task("y", "x"), wanted=["y"])
        assert "unused" not in env.states()
        assert env.computed_keys("a") == ["x"]


def test_parts_of_a_submission_start_before_the_last_came() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), submission=9, wanted=[], last=False)
        assert env.computed_keys("a") == ["x"]
        env.finish("x")
        assert env.states() == {"x": "memory"}, "kept until the last part has come"
        env.submit(a_task("y", "x"), submission=9, wanted=["y"], first_rank=1)
        assert env.computed_keys("a") == ["y"]
        env.finish("y")
        assert env.freed("a") == ["x"]
        env.told()


def test_a_wave_larger_than_the_cluster_is_queued() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.submit(*[a_task(("x", i)) for i in range(10)])
        assert sorted(env.computed_keys("a") + env.computed_keys("b")) == [("x", i) for i in range(4)]
        assert [ts.key for ts in env.state.queued] == [("x", i) for i in range(4, 10)]
        env.finish(("x", 0), duration_s=1.0)
        assert env.computed_keys("a") == [("x", 4)]
        env.told()


@pytest.mark.parametrize("duration_s, expected", [(1.0, 3), (1e-3, 12), (1e-6, 95)])
def test_prefetch_is_bounded_by_time(duration_s: float, expected: int) -> None:
    """Once durations are known, short tasks go out in numbers; long ones two at a time."""
    env = TestEnv({"a": 1})
    env.submit(*[a_task(("x", i)) for i in range(100)])
    env.finish(("x", 0), duration_s=duration_s)
    env.finish(("x", 1), duration_s=duration_s)
    sent = 2 + len(env.worker("a").processing)
    assert abs(sent - (expected if expected < 95 else 100)) <= 2
    env.state.validate()


def test_saturation_may_be_infinite() -> None:
    env = TestEnv({"a": 1}, saturation=float("inf"))
    env.submit(*[a_task(("x", i)) for i in range(50)])
    assert len(env.worker("a").processing) == 50


def test_free_threads_are_filled_first() -> None:
    env = TestEnv({"a": 4, "b": 4})
    env.submit(*[a_task(("x", i)) for i in range(8)])
    assert len(env.worker("a").processing) == len(env.worker("b").processing) == 4


def test_user_priority_then_generation_then_rank() -> None:
    with TestEnv({"a": 1}, saturation=0.5) as env:
        env.submit(a_task("running"))
        env.submit(a_task("early-a"), a_task("early-b"))
        env.submit(a_task("late"))
        env.submit(a_task("urgent", options=0), options=[TaskOptions(priority=10)])
        env.submit(a_task("whenever", options=0), options=[TaskOptions(priority=-1)])
        order = []
        while env.worker("a").processing:
            (ts,) = env.worker("a").processing
            order.append(ts.key)
            env.finish(ts.key)
        assert order == ["running", "urgent", "early-a", "early-b", "late", "whenever"]
        env.ignore_all()


def test_submissions_within_the_fifo_timeout_share_a_generation() -> None:
    env = TestEnv({"a": 1})
    env.submit(a_task("x"), fifo_timeout_s=0.1)
    env.submit(a_task("y"), fifo_timeout_s=0.1)
    env.now += 1
    env.submit(a_task("z"), fifo_timeout_s=0.1)
    assert env.task("x").priority == env.task("y").priority < env.task("z").priority


def test_work_submitted_by_a_task_goes_before_later_work() -> None:
    env = TestEnv({"a": 1})
    env.submit(a_task("parent"))
    env.submit(a_task("other"))
    env.submit(a_task("child"), submitting_task="parent")
    assert env.task("child").priority < env.task("parent").priority < env.task("other").priority


def test_requeued_tasks_keep_their_place() -> None:
    env = TestEnv({"a": 1})
    env.submit(*[a_task(("x", i)) for i in range(5)])
    env.lose("a")
    assert [ts.key for ts in env.state.queued] == [("x", i) for i in range(5)]


def test_known_key_again_gives_its_result() -> None:
    with TestEnv({"a": 1}, clients="cd") as env:
        env.submit(a_task("x"))
        env.finish("x")
        env.ignore_all()
        env.submit(a_task("x"), client="d")
        assert env.told("d") == [KeyInMemory("x", "int", None, ("tcp://a:1",), 10)]
        env.release("x", client="c")
        assert env.states() == {"x": "memory"}
        env.event(ClientLeft("d"))
        assert env.freed("a") == ["x"]
        assert env.instructed() == [ClientRemoved("d", "closed", False)]


def test_known_key_with_other_dependencies_warns_and_keeps_the_old() -> None:
    with TestEnv({"a": 3}) as env:
        env.submit(a_task("x"), a_task("y"), a_task("z", "x"))
        env.submit(a_task("z", "y"))
        (warning,) = env.instructed()
        assert isinstance(warning, LogWarning) and "'z'" in warning.message
        assert [d.key for d in env.task("z").dependencies] == ["x"]
        env.ignore_all()


def test_unknown_dependency_cancels_what_needs_it() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("y", "nowhere"), a_task("z", "y"), a_task("fine"))
        (cancelled,) = env.told()
        assert isinstance(cancelled, KeysCancelled)
        assert cancelled.keys == ["y", "z"] and "'nowhere'" in cancelled.reason
        assert env.computed_keys("a") == ["fine"]
        assert list(env.states()) == ["fine"]


def test_want_keys() -> None:
    with TestEnv({"a": 1}, clients="cd") as env:
        env.submit(a_task("x"), a_task("y", "x"), wanted=["y"])
        env.finish("x")
        env.finish("y")
        env.ignore_all()
        env.event(WantKeys(["x", "y", "gone"]), "d")
        assert env.computed_keys("a") == ["x"], "released before, computed again"
        assert env.told("d") == [KeyInMemory("y", "int", None, ("tcp://a:1",), 10), KeysCancelled(["gone"], "lost")]


def test_ready_twice_in_one_beat_is_placed_once() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), a_task("y", "x"), wanted=["y"])
        env.finish("x")
        env.finish("y")
        env.ignore_all()
        env.event(WantKeys(["x"]), "c", flush=False)
        env.event(ReleaseKeys(["x"]), "c", flush=False)
        env.event(WantKeys(["x"]), "c")
        assert env.computed_keys("a") == ["x"]


def test_fire_and_forget_keeps_a_task_until_it_is_done() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"))
        env.event(FireAndForget(["x"]), "c")
        env.release("x")
        assert env.states() == {"x": "processing"}
        env.computes("a")
        env.finish("x")
        assert env.freed("a") == ["x"] and not env.state.tasks


def test_release_while_processing_frees_the_worker() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), a_task("y"), a_task("z"))
        env.computes("a")
        env.release("x")
        freed, compute = env.sent("a")
        assert isinstance(freed, FreeKeys) and freed.keys == ["x"]
        assert compute.key == "z"


def test_late_answer_of_an_older_run_changes_nothing() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"))
        old = env.task("x").run_id
        env.release("x")
        env.submit(a_task("x"))
        env.ignore_all()
        assert env.task("x").run_id != old
        env.finish("x", "a", run_id=old)
        assert env.states() == {"x": "processing"}


def test_late_answer_from_elsewhere_is_told_to_forget() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.submit(a_task("x"))
        env.ignore_all()
        run_id = env.task("x").run_id
        other = "b" if env.where("x") == "a" else "a"
        env.event(TaskFinished("x", run_id, 1, 0.1), f"tcp://{other}:1")
        assert env.freed(other) == ["x"] and env.states() == {"x": "processing"}
        env.event(TaskFinished("unknown", 77, 1, 0.1), "tcp://a:1")
        assert env.freed("a") == ["unknown"]


def test_long_running_tasks_free_their_slot() -> None:
    with TestEnv({"a": 1}, saturation=0.5) as env:
        env.submit(a_task("x"), a_task("y"))
        assert env.computed_keys("a") == ["x"]
        env.event(TaskLongRunning("x", env.task("x").run_id, 0.2), "tcp://a:1")
        assert env.computed_keys("a") == ["y"]
        assert "seceded" in env.state.explain("x").text
        env.finish("x")
        env.told()


def test_rescheduled_tasks_go_elsewhere() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.submit(a_task("x"))
        env.ignore_all()
        first = env.where("x")
        env.event(TaskRescheduled("x", env.task("x").run_id), f"tcp://{first}:1")
        assert env.where("x") != first
        env.ignore_all()


def test_group_and_prefix_counters() -> None:
    env = TestEnv({"a": 1})
    env.submit(*[a_task(f"inc-0123456789abcdef-{i}") for i in range(5)])
    env.finish("inc-0123456789abcdef-0", nbytes=50, duration_s=0.3)
    group = env.state.task_groups["inc-0123456789abcdef"]
    assert group.states["memory"] == 1 and len(group) == 5 and group.nbytes_total == 50
    prefix = env.state.task_prefixes["inc"]
    assert prefix.states["processing"] == 2 and prefix.states["queued"] == 2
    assert prefix.duration_average == pytest.approx(0.3)
    env.event(ClientLeft("c"))
    assert prefix.states["forgotten"] == 5 and not env.state.task_groups


def test_transitions_are_recorded_in_order_for_plugins() -> None:
    env = TestEnv({"a": 1}, record_transitions=True)
    env.submit(a_task("x"))
    env.finish("x")
    env.release("x")
    steps = [(t.start, t.finish) for t in env.transitions]
    assert steps == [
        ("released", "waiting"),
        ("waiting", "processing"),
        ("processing", "memory"),
        ("memory", "released"),
        ("released", "forgotten"),
    ]
    assert type(env.transitions[2].event) is TaskFinished and env.transitions[2].worker == "tcp://a:1"
    assert [(e.start, e.finish) for e in env.state.story("x")] == steps
    assert env.state.story(env.transitions[2].stimulus_id)[0].key == "x"


def test_heartbeat_charges_for_tasks_that_run_late() -> None:
    env = TestEnv({"a": 1})
    env.submit(a_task("x"))
    env.event(Heartbeat({"cpu": 3}, [("x", 7.0)], 1, 2, 3), "tcp://a:1")
    ws = env.worker("a")
    assert ws.occupancy == 7.0 and ws.metrics == {"cpu": 3} and list(ws.executing) == [env.task("x")]
    assert "since 7.0 s" in env.state.explain("x").text


def test_duplicate_dependency_keeps_places() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), a_task("y", "x", "x"))
        env.ignore_all()
        env.finish("x")
        (compute,) = env.computes("a")
        assert [need.key for need in compute.needs] == ["x", "x"]
        env.told()


def test_known_dependency_finished_long_ago() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"))
        env.finish("x")
        env.ignore_all()
        env.submit(a_task("y", "x"))
        assert env.computed_keys("a") == ["y"]


def test_functions_are_dropped_when_nobody_needs_them() -> None:
    env = TestEnv({"a": 1})
    env.submit(a_task("x"))
    assert list(env.state.functions) == [b"digest"]
    env.event(ClientLeft("c"))
    assert not env.state.functions and not env.state.tasks


def test_a_deep_chain_needs_no_recursion() -> None:
    n = 5000
    env = TestEnv({"a": 1}, story_length=0)
    state = env.state
    specs = [a_task(f"x-{i}", *([f"x-{i - 1}"] if i else [])) for i in range(n)]
    state.handle(UpdateGraph(1, specs, [FUNCTION], wanted=[f"x-{n - 1}"]), "c", 0)
    state.flush(0)
    state.handle(CancelKeys([f"x-{n - 1}"]), "c", 0)
    assert not state.tasks
