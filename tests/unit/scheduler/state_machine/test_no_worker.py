"""Tasks that no worker can take: told once for each cause, in bounded work (see the playbook ``no_worker_is_told``)."""

from __future__ import annotations

from distributed.messages.client_to_scheduler import TaskOptions
from distributed.messages.scheduler_to_client import NoWorkerForTasks
from distributed.scheduler.state_machine.events import ClientJoined
from distributed.scheduler.state_machine.instructions import TasksUnrunnable
from tests.unit.scheduler.state_machine.environment import TestEnv, a_task

GPU = [TaskOptions(resources={"GPU": 1})]


def quiet() -> TestEnv:
    return TestEnv({"a": 1}, "cd")


def test_many_tasks_with_one_wish_are_one_event_and_one_message():
    with quiet() as env:
        for part in range(3):
            env.submit(*[a_task((f"x-{part}", i)) for i in range(2000)], options=GPU)
        env.wait(60)
        (told,) = env.told()
        (logged,) = env.instructed()
        assert (type(told), told.n_tasks, len(told.keys)) == (NoWorkerForTasks, 6000, 5)
        assert (type(logged), logged.n_tasks) == (TasksUnrunnable, 6000)
        assert "GPU" in told.reason
        assert env.state.next_deadline() is None


def test_nothing_is_told_of_what_finds_a_worker_in_time():
    with quiet() as env:
        env.submit(a_task("x"), options=GPU)
        env.wait(0.4)
        env.join("g", resources={"GPU": 1.0})
        assert env.computed_keys("g") == ["x"]
        env.wait(60)


def test_many_causes_are_told_a_few_at_a_time():
    env = quiet()
    for i in range(250):
        env.submit(a_task(f"x-{i}"), options=[TaskOptions(workers=(f"nowhere-{i}",))])
    env.wait(0.3)
    counts = []
    for _ in range(6):
        env.wait(0.05)
        counts.append(len(env.instructed()))
    assert sum(counts) == 250
    assert max(counts) <= 200
    assert len(env.told()) == 250


def test_whoever_waits_for_what_needs_the_task_is_told():
    with quiet() as env:
        env.submit(a_task("x"), a_task("y", "x"), wanted=["y"], options=GPU)
        env.wait(1)
        (told,) = env.told()
        assert told.keys == ["x"]
        env.instructed()


def test_a_submission_in_parts_is_told_before_its_last_part():
    with quiet() as env:
        env.submit(a_task("x"), wanted=["z"], last=False, submission=7, options=GPU)
        env.wait(1)
        assert [m.keys for m in env.told()] == [["x"]]
        env.instructed()


def test_published_data_hears_nothing():
    with quiet() as env:
        env.event(ClientJoined("published-x", mute=True))
        env.submit(a_task("x"), client="published-x", options=GPU)
        env.wait(1)
        assert [type(i) for i in env.instructed()] == [TasksUnrunnable]


def test_the_first_of_a_cause_may_be_gone_when_it_is_told():
    with quiet() as env:
        env.submit(*[a_task(f"x-{i}") for i in range(50)], options=GPU)
        env.release(*[f"x-{i}" for i in range(40)])
        env.wait(1)
        (told,) = env.told()
        assert (told.keys[0], told.n_tasks) == ("x-40", 10)
        env.instructed()


def test_a_cause_goes_with_its_last_task():
    with quiet() as env:
        env.submit(a_task("x"))
        env.finish("x")
        env.ignore_all()
        table = env.state.unrunnable
        env.submit(a_task("y", "x"), options=GPU)
        env.submit(a_task("z"), options=GPU)
        assert len(table.causes) == 1
        env.release("y")
        assert len(table) == 1
        env.release("z")
        assert not table
        assert not table.causes
        assert not table.pending
        env.ignore_all()


def test_the_patience_with_an_empty_cluster_begins_with_the_first_task_that_waits():
    with TestEnv(no_workers_timeout_s=5.0) as env:
        env.wait(3600)
        env.submit(a_task("x"))
        env.wait(4)
        assert env.states() == {"x": "queued"}
        env.wait(2)
        (erred,) = env.told()
        assert erred.error.type_name == "NoWorkerError"


def test_a_worker_that_comes_in_time_ends_the_patience():
    with TestEnv(no_workers_timeout_s=5.0) as env:
        env.submit(a_task("x"))
        env.wait(4)
        env.join("a")
        env.wait(60)
        assert env.computed_keys("a") == ["x"]
