"""Errors, retries, cancellation, deaths of workers, lost data."""

from __future__ import annotations

from distributed.messages.client_to_scheduler import RetryKeys, TaskOptions
from distributed.messages.control import RegisterWorker
from distributed.messages.nanny import WorkerProcessExited
from distributed.messages.payload import ErrorInfo
from distributed.messages.scheduler_to_client import KeyErred, KeysCancelled, KeysLost, KeysRetried
from distributed.messages.scheduler_to_worker import ComputeTask, FreeKeys, HoldersChanged
from distributed.messages.worker_to_scheduler import MissingData, ReplicasDropped, WhoHas, WorkerClosing
from distributed.scheduler.state_machine.events import Restart, WorkerJoined
from distributed.scheduler.state_machine.instructions import WorkerRemoved
from distributed.scheduler.state_machine.transitions.cancel import MAX_LOST_DATA

from .environment import BOOM, TestEnv, a_task


def test_error_reaches_dependents_and_clients_with_blame() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), a_task("y", "x"), a_task("z", "y"))
        env.computes("a")
        env.raise_("x")
        assert env.told() == [KeyErred("x", BOOM), KeyErred("y", BOOM, "x"), KeyErred("z", BOOM, "x")]
        assert env.task("z").exception_blame is env.task("x")
        assert env.task("x").erred_on == ["tcp://a:1"]
        env.release("x")
        assert len(env.states()) == 3, "what failed of it is still wanted"
        env.release("y", "z")
        assert not env.state.tasks


def test_dependent_of_an_erred_task_fails_at_once() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"))
        env.raise_("x")
        env.ignore_all()
        env.submit(a_task("y", "x"), a_task("z", "y"))
        assert env.told() == [KeyErred("y", BOOM, "x"), KeyErred("z", BOOM, "x")]


def test_resubmitted_erred_key_gives_its_error() -> None:
    with TestEnv({"a": 1}, clients="cd") as env:
        env.submit(a_task("x"))
        env.raise_("x")
        env.ignore_all()
        env.submit(a_task("x"), client="d")
        assert env.told("d") == [KeyErred("x", BOOM)]


def test_forgotten_erred_key_is_computed_again() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"))
        env.raise_("x")
        env.release("x")
        env.ignore_all()
        env.submit(a_task("x"))
        assert env.computed_keys("a") == ["x"]


def test_retries_of_the_user() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), options=[TaskOptions(retries=2)])
        for left in (1, 0):
            env.raise_("x")
            assert env.task("x").retries == left and env.states() == {"x": "processing"}
        assert len(env.computes("a")) == 3
        env.raise_("x")
        assert env.told() == [KeyErred("x", BOOM)]


def test_hopeless_errors_are_not_retried() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), options=[TaskOptions(retries=2)])
        env.computes("a")
        env.raise_("x", retriable=False)
        assert env.told() == [KeyErred("x", BOOM)]


def test_retry_runs_the_failed_and_what_failed_of_it() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), a_task("y", "x"), a_task("other", "x"))
        env.raise_("x")
        env.ignore_all()
        env.event(RetryKeys(["y"]), "c")
        (retried,) = env.told()
        assert isinstance(retried, KeysRetried) and sorted(retried.keys) == ["other", "x", "y"]
        assert env.computed_keys("a") == ["x"]
        env.finish("x")
        assert sorted(env.computed_keys("a")) == ["other", "y"]
        env.told()


def test_retry_recomputes_released_inputs() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), a_task("y", "x"), wanted=["y"])
        env.finish("x")
        env.raise_("y")
        env.ignore_all()
        assert env.states() == {"x": "released", "y": "erred"}
        env.event(RetryKeys(["y"]), "c")
        assert env.computed_keys("a") == ["x"]
        env.told()


# Cancelling


def test_cancel_takes_dependents_along() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), a_task("y", "x"))
        env.computes("a")
        env.cancel("x", reason="no longer")
        assert env.told() == [KeysCancelled(["y"], "no longer")]
        assert env.freed("a") == ["x"] and not env.state.tasks


def test_cancel_spares_what_another_client_wants() -> None:
    with TestEnv({"a": 1}, clients="cd") as env:
        env.submit(a_task("x"), client="c")
        env.submit(a_task("x"), client="d")
        env.computes("a")
        env.cancel("x", client="c")
        assert not env.told("c") and not env.told("d")
        assert env.states() == {"x": "processing"}


def test_forced_cancel_spares_nobody() -> None:
    with TestEnv({"a": 1}, clients="cd") as env:
        env.submit(a_task("x"), client="c")
        env.submit(a_task("y", "x"), client="d")
        env.computes("a")
        env.cancel("x", force=True)
        assert not env.told("c")
        assert env.told("d") == [KeysCancelled(["y"], "cancelled")]
        assert env.freed("a") == ["x"] and not env.state.tasks


def test_cancel_is_not_echoed() -> None:
    """The client has cancelled these futures already; an echo would hit those of the same keys submitted meanwhile."""
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"))
        env.cancel("x", "nowhere")
        env.submit(a_task("x"))
        assert not env.told()
        assert env.states() == {"x": "processing"}
        env.sent("a")


def test_cancel_of_queued_tasks() -> None:
    env = TestEnv({"a": 1})
    env.submit(*[a_task(("x", i)) for i in range(10)])
    env.cancel(*[("x", i) for i in range(5, 10)])
    assert len(env.state.queued) == 3


# Deaths


def test_tasks_of_a_dead_worker_run_elsewhere() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.submit(a_task("x"), options=[TaskOptions(retries=1)])
        env.ignore_all()
        first = env.where("x")
        env.lose(first)
        second = env.where("x")
        assert second != first
        assert env.computed_keys(second) == ["x"]
        assert env.task("x").suspicious == 1 and env.task("x").retries == 1, "the user's retries are not spent"
        (removed,) = env.instructed()
        assert isinstance(removed, WorkerRemoved) and removed.n_rerun == 1 and not removed.expected


def test_only_as_many_as_threads_are_blamed() -> None:
    env = TestEnv({"a": 2})
    env.submit(*[a_task(("x", i)) for i in range(3)])
    assert len(env.worker("a").processing) == 3
    env.lose("a")
    assert [env.task(("x", i)).suspicious for i in range(3)] == [1, 1, 0]


def test_exit_report_names_the_guilty_and_the_cause() -> None:
    with TestEnv(allowed_failures=0) as env:
        env.join("a", 2, nanny="tcp://nanny:1", pid=7)
        env.submit(a_task("x"), a_task("y"))
        env.ignore_all()
        run_id = env.task("y").run_id
        env.lose("a")
        assert env.states() == {"x": "processing", "y": "processing"}, "the nanny's report is awaited"
        assert "nanny" in env.state.explain("y").text
        env.event(
            WorkerProcessExited(
                "tcp://a:1", 7, signal=9, executing=(run_id,), peak_bytes=2**30, log_tail=("last words",)
            )
        )
        (erred,) = env.told()
        assert erred.key == "y" and erred.error.type_name == "KilledWorker"
        for part in ("'y'", "tcp://a:1", "signal 9", "1024 MiB", "last words"):
            assert part in erred.error.message
        assert env.states()["x"] == "queued" and env.task("x").suspicious == 0
        env.instructed()


def test_a_successor_of_the_same_name_needs_no_report() -> None:
    with TestEnv({"b": 1}) as env:
        env.join("a", 1, nanny="tcp://nanny:1")
        env.submit(a_task("x"), a_task("y"))
        env.ignore_all()
        env.lose("a")
        env.event(WorkerJoined(RegisterWorker("tcp://elsewhere:1", "a", "elsewhere", 1)))
        assert [type(found) for found in env.instructed()] == [WorkerRemoved]
        assert sorted(env.state.workers) == ["tcp://b:1", "tcp://elsewhere:1"]
        assert env.state.aliases["a"] == "tcp://elsewhere:1"
        env.ignore_all()


def test_only_the_run_that_ended_the_process_is_blamed() -> None:
    with TestEnv(allowed_failures=0) as env:
        env.join("a", 2, nanny="tcp://nanny:1", pid=7)
        env.submit(a_task("x"), a_task("y"), a_task("z"))
        env.ignore_all()
        x, y = env.task("x").run_id, env.task("y").run_id
        env.event(
            WorkerProcessExited("tcp://a:1", 7, exit_code=3, executing=(x, y), culprits=(y,), cause="more is known")
        )
        (erred,) = env.told()
        assert erred.key == "y" and "exited with code 3: more is known" in erred.error.message
        assert env.task("x").suspicious == env.task("z").suspicious == 0
        (removed,) = env.instructed()
        assert (removed.n_rerun, removed.n_requeued, removed.n_recomputed) == (1, 1, 0)
        assert removed.death is not None and (removed.death.exit_code, removed.death.pid) == (3, 7)


def test_without_report_the_core_acts_after_half_a_second() -> None:
    with TestEnv() as env:
        env.join("a", 1, nanny="tcp://nanny:1")
        env.submit(a_task("x"))
        env.ignore_all()
        env.lose("a")
        env.wait(0.4)
        assert env.states() == {"x": "processing"}
        env.wait(0.2)
        assert env.states() == {"x": "queued"} and env.task("x").suspicious == 1
        env.instructed()


def test_report_before_the_broken_connection() -> None:
    with TestEnv() as env:
        env.join("a", 1, nanny="tcp://nanny:1")
        env.event(WorkerProcessExited("tcp://a:1", 0, exit_code=3))
        assert env.instructed()[0].cause == "exited with code 3"
        env.lose("a")


def test_killed_worker_after_allowed_failures() -> None:
    with TestEnv({"w0": 1}, allowed_failures=2) as env:
        env.submit(a_task("x"), a_task("y", "x"))
        for i in range(3):
            env.join(f"w{i + 1}")
            env.ignore_all()
            env.lose(env.where("x"))
        told = env.told()
        assert [m.key for m in told] == ["x", "y"] and told[1].blame == "x"
        assert told[0].error.message.count("attempt") == 3
        assert [death.cause for death in env.task("x").rare.deaths] == ["connection lost"] * 3  # type: ignore[union-attr]
        env.ignore_all()


def test_what_is_not_needed_since_another_one_was_given_up_may_be_retried_with_it() -> None:
    with TestEnv({"a": 2}, allowed_failures=0) as env:
        env.submit(a_task("x"), a_task("y"), a_task("z", "x", "y"), wanted=["z"])
        env.lose("a")
        assert sorted(env.states().values()) == ["erred", "erred", "released"]
        env.join("b", 2)
        env.event(RetryKeys(["z"]), "c")
        assert sorted(env.computed_keys("b")) == ["x", "y"]
        assert [env.task(key).suspicious for key in "xyz"] == [0, 0, 0]
        env.ignore_all()


def test_orderly_close_blames_nobody() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"))
        env.computes("a")
        env.event(WorkerClosing("lifetime over"), "tcp://a:1")
        assert env.task("x").suspicious == 0 and env.instructed()[0].expected


def test_lost_results_are_computed_again_with_their_inputs() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"), a_task("y", "x"), wanted=["y"])
        env.finish("x")
        env.finish("y")
        env.join("b")
        env.ignore_all()
        env.lose("a")
        assert env.told() == [KeysLost(["y"])]
        assert env.computed_keys("b") == ["x"] and env.states()["y"] == "waiting"
        assert env.instructed()[0].n_recomputed == 2


def test_replica_saves_a_result() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.submit(a_task("x"))
        env.finish("x")
        holder = env.holders("x")[0]
        other = "b" if holder == "a" else "a"
        env.replica("x", other)
        env.ignore_all()
        env.lose(holder)
        assert env.holders("x") == [other]
        env.instructed()


def test_processing_dependent_waits_again_when_its_input_is_lost() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.submit(a_task("x", options=0), options=[TaskOptions(workers=("a",))])
        env.finish("x")
        env.ignore_all()
        env.submit(a_task("y", "x"), options=[TaskOptions(workers=("b",))])
        env.computes("b")
        env.join("a2", host="a")
        env.lose("a")
        assert env.freed("b") == ["y"]
        assert env.states() == {"x": "processing", "y": "waiting"}
        env.ignore_all()


def test_lost_scattered_data_names_key_and_holder() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.scatter("data", "a")
        env.submit(a_task("y", "data"))
        env.ignore_all()
        env.lose("a")
        (cancelled,) = env.told()
        assert cancelled.keys == ["data", "y"] and cancelled.lost
        assert "'data'" in cancelled.reason and "tcp://a:1" in cancelled.reason
        assert not env.state.tasks
        # Who asks for it later learns the same.
        env.submit(a_task("z", "data"))
        (later,) = env.told()
        assert (later.keys, later.reason, later.lost) == (["z"], cancelled.reason, True)
        env.ignore_all()


def test_what_is_known_of_lost_data_is_bounded_and_ends_with_its_return() -> None:
    with TestEnv({"a": 1}) as env:
        for i in range(MAX_LOST_DATA + 10):
            env.scatter(f"d{i}", "gone")
        env.ignore_all()
        assert list(env.state.lost_data) == [f"d{i}" for i in range(10, MAX_LOST_DATA + 10)]
        env.scatter("d50", "a")
        assert "d50" not in env.state.lost_data
        env.ignore_all()


def test_scatter_to_a_dead_worker_is_lost() -> None:
    with TestEnv({"a": 1}) as env:
        env.scatter("data", "gone")
        (cancelled,) = env.told()
        assert cancelled.keys == ["data"] and cancelled.reason.startswith("lost")


def test_missing_data_strikes_the_holder_off() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.submit(a_task("x"), options=[TaskOptions(workers=("a",))])
        env.finish("x")
        env.ignore_all()
        env.event(MissingData("x", "tcp://a:1", "refused"), "tcp://b:1")
        freed, compute = env.sent("a")
        assert isinstance(freed, FreeKeys) and freed.keys == ["x"] and isinstance(compute, ComputeTask)
        assert env.told() == [KeysLost(["x"])]


def test_who_has_is_answered() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.scatter("x", "a")
        env.told()
        env.event(WhoHas(["x", "gone"]), "tcp://b:1")
        freed, answer = env.sent("b")
        assert isinstance(freed, FreeKeys) and freed.keys == ["gone"]
        assert isinstance(answer, HoldersChanged) and answer.needs[0].holders == ("tcp://a:1",)


def test_replicas_of_forgotten_keys_are_freed() -> None:
    with TestEnv({"a": 1}) as env:
        env.replica("gone", "a")
        assert env.freed("a") == ["gone"]


def test_dropped_replica() -> None:
    with TestEnv({"a": 1, "b": 1}) as env:
        env.scatter("x", "a", "b")
        env.told()
        env.event(ReplicasDropped(["x"]), "tcp://a:1")
        assert env.holders("x") == ["b"]


def test_lost_actor_is_an_error() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("actor"), options=[TaskOptions(actor=True)])
        env.finish("actor")
        assert list(env.worker("a").actors) == [env.task("actor")]
        env.ignore_all()
        env.lose("a")
        (erred,) = env.told()
        assert isinstance(erred, KeyErred) and "actor" in erred.error.message
        env.instructed()


def test_unshippable_values_hold_their_dependents() -> None:
    why = ErrorInfo("TypeError", "cannot pickle a lock")
    with TestEnv({"a": 1, "b": 1}) as env:
        env.submit(a_task("x"))
        env.finish("x", unshippable=why)
        assert env.told()[0].unshippable == why
        holder = env.holders("x")[0]
        env.ignore_all()
        env.submit(*[a_task(("y", i), "x") for i in range(6)])
        assert {env.where(("y", i)) for i in range(6)} == {holder}
        env.ignore_all()


def test_restart_cancels_all_and_starts_workers_anew() -> None:
    with TestEnv({"a": 1}, clients="cd") as env:
        env.submit(a_task("x"), a_task("y", "x"))
        env.finish("x")
        env.ignore_all()
        env.event(Restart())
        assert not env.state.tasks and not env.state.workers
        assert [type(m).__name__ for m in env.told("c") + env.told("d")] == ["ClusterRestarted"] * 2
        (order,) = env.sent("a")
        assert order.restart
        assert env.instructed()[0].expected
        env.join("a2")
        env.submit(a_task("x"))
        assert env.computed_keys("a2") == ["x"]


def test_actor_is_made_anew_as_often_as_it_may() -> None:
    with TestEnv({"a": 1, "b": 1, "c": 1}) as env:
        env.submit(a_task("x"), options=[TaskOptions(actor=True, max_restarts=1)])
        env.finish("x")
        (first,) = env.holders("x")
        env.ignore_all()
        env.lose(first)
        assert env.told() == [KeysLost(["x"])]
        assert env.states() == {"x": "processing"} and env.where("x") != first
        env.ignore_all()
        env.finish("x")
        env.ignore_all()
        env.lose(env.holders("x")[0])
        assert env.states() == {"x": "erred"} and env.task("x").error.type_name == "ActorLost"
        env.ignore_all()
