"""What plugins, pages and heartbeats see of the worker's tables, and the explanations."""

from __future__ import annotations

from distributed.messages.payload import ErrorInfo
from distributed.messages.scheduler_to_worker import AcquireReplicas, SetStatus, StealRequest, TaskNeed
from distributed.messages.worker_to_scheduler import TaskFinished
from distributed.worker.state_machine.events import DataUpdated, ExecuteLongRunning, Pause
from distributed.worker.state_machine.fetch_plan import host_of
from tests.unit.worker.state_machine.env import A, B, Env, a_task, arrived, failure, free, success, unreachable


def settled(env: Env) -> Env:
    env.open.clear()
    return env


def test_views_of_tasks_in_each_state():
    env = Env(2, {"GPU": 1})
    env.send(DataUpdated({"d": 5}))
    env.send(
        a_task("run", 1, annotations={"a": 1}),
        a_task("seceded", 2),
        a_task("needy", 3, ("in", A), "gone"),
        a_task("gpu", 4, resources={"GPU": 2}),
        a_task("actor", 5, actor=True),
    )
    env.send(ExecuteLongRunning("seceded", 2))
    state = env.state
    assert {ts.key for ts in state.long_running} == {"seceded"}
    assert {ts.key for ts in state.all_running_tasks} == {"run", "seceded", "actor"}
    assert {ts.key for ts in state.waiting} == {"needy"}
    assert state.n_waiting == 1
    assert {ts.key for ts in state.in_flight_tasks} == {"in"}
    assert (state.executing_count, state.nbytes, state.running) == (2, 5, True)
    assert state.available_resources == state.total_resources == {"GPU": 1}
    assert state.actors == {}
    env.send(success("actor", 5))
    assert set(state.actors) == {"actor"}
    needy, needed = state.tasks["needy"], state.tasks["in"]
    assert {ts.key for ts in needy.waiting_for_data} == {"in", "gone"}
    assert needed.who_has == {A}
    assert needed.waiters == {needy}
    assert state.tasks["gpu"].resource_restrictions == {"GPU": 2}
    assert state.tasks["run"].annotations == {"a": 1}
    assert state.tasks["run"].run_spec is not None
    assert needed.annotations is None
    assert needed.resource_restrictions == {}
    assert state.tasks["actor"].done
    assert not needy.done
    assert state.tasks["actor"].type == "int"
    assert state.tasks["d"].who_has == set()
    assert repr(needy) == "<TaskState 'needy' waiting>"
    assert state.counts() == {
        "executing": 1,
        "long-running": 1,
        "ready": 0,
        "constrained": 1,
        "flight": 1,
        "missing": 1,
        "memory": 2,
        "stale": 0,
        "known": 8,
    }
    assert [step[:3] for step in state.story(state.tasks["actor"])] == [
        ("actor", "released", "ready"),
        ("actor", "ready", "executing"),
        ("actor", "executing", "memory"),
    ]
    assert len(state.log) > 3
    assert state.story("actor")[0] in state.log


def test_the_story_of_a_value_from_outside():
    env = Env()
    env.send(DataUpdated({"x": 8}))
    assert [step[:3] for step in env.state.story("x")] == [("x", "receive-from-scatter", "memory")]


def test_what_runs_is_told_with_its_seconds():
    env = Env()
    env.send(a_task("x", 1))
    assert env.state.executing_s(env.now + 2.5) == [("x", 2.5)]
    assert env.state.executing == {env.state.tasks["x"]} and env.state.constrained == []


def test_resources_may_change_while_some_are_held():
    env = Env(2, {"GPU": 1})
    env.send(a_task("x", 1, resources={"GPU": 1}), a_task("y", 2, resources={"GPU": 1}))
    assert env.executed() == ["x"]
    env.state.set_resources({"GPU": 2, "MEM": 1})
    env.send(a_task("z", 3, resources={"MEM": 1}))
    assert env.executed() == ["y"]
    env.send(success("x", 1))
    assert env.executed() == ["z"]
    env.send(success("y", 2), success("z", 3))
    assert env.state.available_resources == {"GPU": 2, "MEM": 1}


def test_explanations_of_each_state():
    env = Env(1, {"GPU": 1}, max_gathers=1)
    why = env.state.explain
    assert why("x").text == "this worker knows nothing of it"
    env.send(a_task("run", 1), a_task("queued", 2), a_task("gpu", 3, resources={"GPU": 3}))
    env.send(a_task("needy", 4, ("in", A), ("later", A), ("other", B), "gone"))
    env.now = 2.0
    env.send(SetStatus("running"))
    assert why("run").text == "with the executor for 2 s"
    assert why("run").since_s == 2.0
    assert why("queued").text == "ready behind 0 task(s); 1 run(s) with the executor on 1 slot(s)"
    assert why("gpu").text == "waits for resources (GPU: needs 3, this worker has 1 in all)"
    assert why("gpu").unsatisfied == {"GPU": "needs 3, this worker has 1 in all"}
    assert why("needy").text == f"waits for its input 'in' (asked from {A} 2 s ago), and for 3 more"
    assert list(why("needy").waiting_on) == ["in", "later", "other", "gone"]
    assert why("in").text == f"asked from {A} 2 s ago"
    assert why("in").fetching_from == A
    assert why("other").text == f"to be fetched; {B} is next, 1 fetch(es) under way"
    assert why("gone").text.startswith("no holder is known")
    env.send(unreachable(A, "in", "later"))
    env.send(Pause())
    assert why("queued").text == "this worker is paused and starts nothing"
    env.send(free("run"))
    assert why("run").text == "nobody wants it; the end of its execution or fetch is awaited"
    env.send(DataUpdated({"d": 9}))
    assert why("d").text == "its value is here (9 bytes)"


def test_why_a_suspect_peer_is_not_asked():
    env = Env()
    env.send(a_task("x", 1, ("in", A)))
    env.send(unreachable(A, "in"))
    env.send(a_task("y", 2, ("in2", A)))
    assert "could not be reached (refused), tried again in 0.1 s" in env.state.explain("in2").text


def test_hosts():
    assert host_of("tcp://10.0.0.1:8786") == "10.0.0.1"
    assert host_of("tls://[::1]:8786") == "[::1]"
    assert host_of("inproc://10.0.0.1/7/1") == host_of("unix:///tmp/s") == ""


def test_the_newest_order_for_a_value_that_is_here_is_answered_with_its_run():
    env = settled(Env().send(a_task("x", 1)))
    env.send(success("x", 1))
    settled(env)
    env.send(a_task("x", 5))
    report = env.claim(TaskFinished)
    assert (report.run_id, report.nbytes) == (5, 8)
    env.done()


def test_an_unreadable_copy_is_told_as_dropped():
    env = Env()
    env.send(AcquireReplicas([TaskNeed("x", (A,), 8)]))
    settled(env)
    error = ErrorInfo("TypeError", "cannot be opened")
    event = arrived(A)
    event.unreadable = {"x": error}
    env.send(event)
    (told,) = env.open
    assert told.keys == ["x"]
    assert not env.state.tasks


def test_a_steal_of_an_older_run_is_refused():
    env = settled(Env().send(a_task("busy", 1), a_task("x", 3)))
    env.send(StealRequest("x", 2))
    (answer,) = env.open
    assert not answer.given
    assert env.states()["x"] == "ready"


def test_failure_of_an_unknown_run_changes_nothing():
    env = Env()
    env.send(failure("x", 9), success("x", 9), arrived(A, "x"), unreachable(B, "x"))
    assert not env.open
    assert not env.state.tasks
