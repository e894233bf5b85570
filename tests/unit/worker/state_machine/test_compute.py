"""Orders to compute: queue, slots, hand-over ahead of time, reports, new runs of a key."""

from __future__ import annotations

import pytest

from distributed.messages.scheduler_to_worker import SetStatus, StealRequest
from distributed.messages.worker_to_scheduler import (
    StealResponse,
    TaskErred,
    TaskFinished,
    TaskLongRunning,
    TaskRescheduled,
    WorkerStatus,
)
from distributed.worker.state_machine.events import (
    ExecuteLongRunning,
    ExecuteRescheduled,
    ExecuteSkipped,
    Pause,
    Unpause,
    WorkerEvent,
)
from distributed.worker.state_machine.handlers import HANDLERS
from distributed.worker.state_machine.instructions import CancelExecute, Evict, Execute, SendToScheduler, StoreResult
from distributed.worker.state_machine.outbox import BUSY_S
from tests.unit.worker.state_machine.env import a_task, failure, free, success


def test_every_event_has_a_handler():
    assert set(HANDLERS) == set(WorkerEvent.__args__)


def test_one_task_from_order_to_report(env):
    env.send(a_task("x", 1, wanted=True, executor="default", annotations={"a": 1}))
    execute = env.claim(Execute)
    assert (execute.key, execute.run_id, execute.function, execute.wanted) == ("x", 1, b"f", True)
    assert (execute.executor, execute.annotations, execute.dependencies) == ("default", {"a": 1}, ())
    env.send(success("x", 1, 28, started=5.0, thread=7, metadata={"m": 1}))
    assert env.claim(StoreResult).run_id == 1
    report = env.claim(TaskFinished)
    assert (report.key, report.run_id, report.nbytes, report.type_name) == ("x", 1, 28, "int")
    assert (report.started, report.thread, report.metadata) == (5.0, 7, {"m": 1})
    assert env.states() == {"x": "memory"}
    env.send(free("x"))
    assert env.claim(Evict).keys == ["x"]
    assert env.states() == {}
    assert [step[1:3] for step in env.state.story("x")] == [
        ("released", "ready"),
        ("ready", "executing"),
        ("executing", "memory"),
        ("memory", "forgotten"),
    ]


def test_reports_that_no_client_waits_for_wait_while_there_is_more_to_do(env):
    def quiet(*events):
        for event in events:
            env.state.handle(event, env.now)
        sent = [item.patience_s for item in env.state.outbox.take() if type(item) is SendToScheduler]
        return sent == [BUSY_S]

    kinds = {1: {}, 2: {"wanted": True}, 3: {}, 4: {}, 5: {}}
    assert not quiet(*[a_task(f"x-{run_id}", run_id, **fields) for run_id, fields in kinds.items()])
    assert quiet(success("x-1", 1, duration_s=0.1))
    assert not quiet(success("x-2", 2, duration_s=0.1))
    assert not quiet(failure("x-3", 3)), "what fails may change what the others are for"
    assert not quiet(success("x-4", 4, duration_s=0.1)), "x-5 is with the executor: soon there will be nothing to do"
    assert not quiet(success("x-5", 5, duration_s=0.1))


def test_short_tasks_that_are_with_the_executor_are_enough_to_do_until_half_of_its_time_is_left(env):
    env.send(*[a_task(f"x{i}", i, duration_s=0.001) for i in range(1, 6)])
    assert len(env.executed()) == 5, "nothing is left to be handed over"
    patience = []
    for run_id in range(1, 6):
        env.state.handle(success(f"x{run_id}", run_id, duration_s=0.001), env.now)
        patience += [item.patience_s for item in env.state.outbox.take() if type(item) is SendToScheduler]
    assert patience == [BUSY_S, BUSY_S, 0.0, 0.0, 0.0]


def test_best_priority_of_a_batch_goes_first(env):
    env.send(a_task("late", 1, rank=9), a_task("early", 2, rank=1))
    assert env.executed() == ["early"]
    assert env.state.explain("late").text.startswith("ready behind 0")
    assert env.state.explain("early").state == "executing"


def test_unknown_durations_get_one_task_a_slot(make_env):
    env = make_env(nthreads=2)
    env.send(*[a_task(f"x{i}", i) for i in range(1, 6)])
    assert env.executed() == ["x1", "x2"]
    assert env.state.explain("x5").queued_behind == 2


def test_short_tasks_are_handed_over_ahead_within_the_time_bound(env):
    env.send(*[a_task(f"x{i}", i, duration_s=0.001) for i in range(1, 20)])
    assert env.executed() == ["x1", "x2", "x3", "x4", "x5"]
    env.send(success("x1", 1))
    assert env.executed() == ["x6"]
    env.claim(StoreResult), env.claim(TaskFinished)


def test_long_tasks_are_not_handed_over_ahead(make_env):
    env = make_env(nthreads=2)
    env.send(*[a_task(f"x{i}", i, duration_s=2) for i in range(1, 6)])
    assert env.executed() == ["x1", "x2"]


def test_a_long_task_does_not_keep_the_other_slot_short(make_env):
    env = make_env(nthreads=2)
    env.send(a_task("long", 1, duration_s=100), *[a_task(f"x{i}", i, duration_s=0.001) for i in range(2, 20)])
    assert len(env.executed()) == 6


def test_durations_unknown_to_the_scheduler_are_learnt(env):
    env.send(a_task("x1", 1), a_task("x2", 2), a_task("x3", 3))
    assert env.executed() == ["x1"]
    env.send(success("x1", 1, duration_s=0.0001))
    assert env.executed() == ["x2", "x3"]
    env.claim(StoreResult), env.claim(TaskFinished)


def test_failure_is_reported_and_forgotten(env):
    env.send(a_task("x", 1)).executed()
    env.send(failure("x", 1))
    report = env.claim(TaskErred)
    assert (report.key, report.run_id, report.retriable) == ("x", 1, True)
    assert env.states() == {}
    assert [step[2] for step in env.state.story("x")][-2:] == ["error", "forgotten"]
    env.send(a_task("x", 2))
    assert env.executed() == ["x"]
    env.send(failure("x", 2), free("x"))
    assert env.claim(TaskErred).run_id == 2
    assert env.states() == {}


def test_reschedule(env):
    env.send(a_task("x", 1)).executed()
    env.send(ExecuteRescheduled("x", 1))
    assert env.claim(TaskRescheduled).run_id == 1
    assert env.states() == {}


def test_secede_frees_the_slot_and_the_end_still_counts(env):
    env.send(a_task("x", 1), a_task("y", 2))
    assert env.executed() == ["x"]
    env.send(ExecuteLongRunning("x", 1, 0.5))
    assert env.claim(TaskLongRunning).duration_s == 0.5
    assert env.executed() == ["y"]
    assert env.state.counts()["long-running"] == 1
    env.send(ExecuteLongRunning("x", 1, 0.6), success("x", 1))
    assert env.claim(TaskFinished).key == "x"
    env.claim(StoreResult)
    assert env.state.slots_used == 1


@pytest.mark.parametrize("order", [["free", "end"], ["end", "free"]])
def test_free_while_executing(env, order):
    env.send(a_task("x", 1), a_task("y", 2)).executed()
    if order[0] == "free":
        env.send(free("x"))
        assert env.claim(CancelExecute).run_id == 1
        assert env.states() == {"x": "cancelled", "y": "ready"}
        assert "awaited" in env.state.explain("x").text
        env.send(success("x", 1))  # neither stored nor reported
    else:
        env.send(success("x", 1), free("x"))
        env.claim(StoreResult), env.claim(TaskFinished), env.claim(Evict)
    assert env.states() == {"y": "executing"}
    assert env.executed() == ["y"]


def test_a_cancelled_run_that_was_not_begun_frees_its_slot(env):
    env.send(a_task("x", 1)).executed()
    env.send(free("x"), a_task("y", 2))
    env.claim(CancelExecute)
    env.send(ExecuteSkipped(1))
    assert env.executed() == ["y"]
    assert env.states() == {"y": "executing"}


def test_newest_run_wins_and_the_older_holds_its_slot(make_env):
    env = make_env(nthreads=2)
    env.send(a_task("x", 1)).executed()
    env.send(free("x"), a_task("x", 2), a_task("y", 3), a_task("z", 4))
    env.claim(CancelExecute)
    assert env.executed() == ["x"]
    assert "older run" in env.state.explain("x").text
    env.send(success("x", 1, nbytes=111))
    assert env.executed() == ["y"]
    env.send(success("x", 2, nbytes=222))
    report = env.claim(TaskFinished)
    assert (report.run_id, report.nbytes) == (2, 222)
    assert env.claim(StoreResult).run_id == 2
    assert env.executed() == ["z"]


def test_a_newer_order_without_free_replaces_the_run(env):
    env.send(a_task("x", 1)).executed()
    env.send(a_task("x", 2))
    assert env.claim(CancelExecute).run_id == 1
    env.send(a_task("x", 1))  # overtaken: nothing happens
    env.send(failure("x", 1))
    assert env.claim(Execute).run_id == 2


def test_a_newer_order_for_a_waiting_or_ready_task_is_taken_over(env):
    env.send(a_task("busy", 1), a_task("x", 2)).executed()
    env.send(a_task("x", 3))
    env.send(StealRequest("x", 2))
    assert not env.claim(StealResponse).given
    env.send(success("busy", 1))
    assert env.claim(Execute).run_id == 3
    env.claim(TaskFinished), env.claim(StoreResult)


def test_a_new_order_for_a_value_that_is_here_is_answered_at_once(env):
    env.send(a_task("x", 1)).executed()
    env.send(success("x", 1, 5)).claim(TaskFinished)
    env.claim(StoreResult)
    env.send(a_task("x", 2))
    report = env.claim(TaskFinished)
    assert (report.run_id, report.nbytes, report.type_name) == (2, 5, "int")


def test_freed_twice_while_two_runs_are_out(make_env):
    env = make_env(nthreads=2)
    env.send(a_task("x", 1)).executed()
    env.send(free("x"), a_task("x", 2)).executed()
    env.send(free("x"))
    assert len(env.claim_all(CancelExecute)) == 2
    env.send(success("x", 2))
    assert env.states() == {"x": "cancelled"}
    env.send(ExecuteSkipped(1))
    assert env.states() == {}
    assert env.state.slots_used == 0


def test_a_seceded_run_that_is_given_up(env):
    env.send(a_task("x", 1)).executed()
    env.send(ExecuteLongRunning("x", 1, 0.5)).claim(TaskLongRunning)
    env.send(free("x")).claim(CancelExecute)
    assert env.state.slots_used == 0
    env.send(failure("x", 1))
    assert env.states() == {}


def test_a_stale_run_may_secede(env):
    env.send(a_task("x", 1)).executed()
    env.send(free("x"), a_task("y", 2)).claim(CancelExecute)
    env.send(ExecuteLongRunning("x", 1, 0.5))
    assert env.executed() == ["y"]
    env.send(success("x", 1))
    assert env.states() == {"y": "executing"}


def test_skipped_though_wanted_goes_back_to_the_queue(env):
    env.send(a_task("x", 1)).executed()
    env.send(ExecuteSkipped(1))
    assert env.executed() == ["x"]


def test_local_inputs(env):
    env.send(a_task("x", 1), a_task("y", 2, "x"))
    assert env.executed() == ["x"]
    assert env.state.explain("y").waiting_on == {"x": "executing"}
    env.send(success("x", 1))
    execute = env.claim(Execute)
    assert (execute.key, execute.dependencies) == ("y", ["x"])
    env.claim(StoreResult), env.claim(TaskFinished)


def test_alias_and_actor_flags_reach_the_executor(env):
    env.send(a_task("x", 1, actor=True)).claim(Execute)
    env.send(success("x", 1))
    env.claim(StoreResult), env.claim(TaskFinished)
    env.send(a_task("y", 2, "x", alias=True))
    assert env.claim(Execute).alias


@pytest.mark.parametrize("where", ["ready", "waiting", "executing", "memory", "nowhere", "other run"])
def test_steal_is_always_answered(env, where):
    env.send(a_task("busy", 1), a_task("x", 2), a_task("y", 3, "x")).executed()
    key, run_id = {"ready": ("x", 2), "waiting": ("y", 3), "executing": ("busy", 1)}.get(where, ("busy", 1))
    if where == "memory":
        env.send(success("busy", 1)).executed()
        env.claim(StoreResult), env.claim(TaskFinished)
    elif where == "nowhere":
        key = "z"
    elif where == "other run":
        key = "x"
    env.send(StealRequest(key, run_id))
    answer = env.claim(StealResponse)
    assert (answer.key, answer.run_id) == (key, run_id)
    assert answer.given == (where in ("ready", "waiting"))
    assert (key in env.states()) == (where not in ("waiting", "nowhere"))


def test_pause_starts_nothing_and_unpause_goes_on(env):
    env.send(Pause(), Pause(), a_task("x", 1))
    assert env.claim(WorkerStatus).status == "paused"
    assert "paused" in env.state.explain("x").text
    env.send(Unpause(), Unpause())
    assert env.claim(WorkerStatus).status == "running"
    assert env.executed() == ["x"]


def test_the_scheduler_sets_the_status(env):
    env.send(SetStatus("paused"), a_task("x", 1))
    assert env.states() == {"x": "ready"}
    env.send(SetStatus("running"))
    assert env.executed() == ["x"]
    assert env.claim(WorkerStatus).status == "running"


def test_a_closing_worker_gives_back_what_it_has_not_started(make_env):
    env = make_env(resources={"GPU": 1})
    env.send(a_task("x", 1), a_task("y", 2), a_task("z", 3, "x", "y"), a_task("g", 4, resources={"GPU": 1})).executed()
    env.send(SetStatus("closing_gracefully"), Unpause(), a_task("late", 5))
    assert {(r.key, r.run_id) for r in env.claim_all(TaskRescheduled)} == {("y", 2), ("z", 3), ("g", 4), ("late", 5)}
    assert env.states() == {"x": "executing"}
    env.send(success("x", 1))
    env.claim(TaskFinished), env.claim(StoreResult)


def test_resources_bound_what_runs(make_env):
    env = make_env(nthreads=4, resources={"GPU": 1})
    env.send(
        a_task("g1", 1, resources={"GPU": 1}, duration_s=1e-5),
        a_task("g2", 2, resources={"GPU": 1}, duration_s=1e-5),
        a_task("never", 3, resources={"FPGA": 1}),
        a_task("plain", 4),
    )
    assert env.executed() == ["g1", "plain"]
    assert env.state.explain("g2").unsatisfied == {"GPU": "needs 1, 0 of 1 free"}
    assert "0 in all" in env.state.explain("never").text
    env.send(failure("g1", 1)).claim(TaskErred)
    assert env.executed() == ["g2"]
    env.send(free("g2", "never")).claim(CancelExecute)
    env.send(a_task("g3", 5, resources={"GPU": 1}))
    assert env.executed() == []  # the stale run holds the GPU
    env.send(ExecuteSkipped(2))
    assert env.executed() == ["g3"]


def test_thirds_fit_into_one(make_env):
    env = make_env(nthreads=10, resources={"MEM": 1})
    env.send(*[a_task(f"x{i}", i, resources={"MEM": 0.1}) for i in range(1, 12)])
    assert len(env.executed()) == 10


def test_constrained_tasks_do_not_starve_behind_short_ones(make_env):
    env = make_env(nthreads=1, resources={"GPU": 1})
    env.send(*[a_task(f"x{i}", i, rank=5, duration_s=0.001) for i in range(1, 20)]).executed()
    env.send(a_task("g", 99, rank=0, resources={"GPU": 1}))
    for i in range(1, 6):
        env.send(success(f"x{i}", i))
    assert env.executed() == ["g"]
    env.claim_all(StoreResult), env.claim_all(TaskFinished)


def test_a_worker_that_may_go_on_says_how_it_is(env):
    """Its news of short memory, or of its end, may have crossed the order."""
    env.send(Pause(), SetStatus("closing_gracefully"), SetStatus("running"))
    assert [m.status for m in env.claim_all(WorkerStatus)] == ["paused", "paused"]
    env.send(Unpause())
    assert env.claim(WorkerStatus).status == env.state.status == "running"
    env.send(Pause(), SetStatus("closing_gracefully"), Unpause(), SetStatus("running"))
    assert [m.status for m in env.claim_all(WorkerStatus)] == ["paused", "running"]


def test_nothing_is_handed_over_ahead_of_time_without_a_share(make_env):
    env = make_env(nthreads=2, handover_s=0.0)
    env.send(*[a_task(f"x{i}", i, duration_s=1e-6) for i in range(1, 9)])
    assert env.executed() == ["x1", "x2"]


def test_set_resources(env):
    env.send(a_task("g", 1, resources={"GPU": 1}))
    env.state.set_resources({"GPU": 2})
    env.send()
    assert env.executed() == ["g"]
    env.state.set_resources({})
    env.send(failure("g", 1)).claim(TaskErred)


def test_a_queue_of_refuse_is_rebuilt(env):
    env.send(a_task("busy", 0), *[a_task(f"x{i}", i) for i in range(1, 1000)]).executed()
    env.send(free(*[f"x{i}" for i in range(1, 990)]))
    assert env.state.ready.n_entries < 100


def test_explain_never_is_empty(env):
    assert env.state.explain("unknown").state == "forgotten"
    env.send(a_task("x", 1)).executed()
    assert env.state.explain("x").text
    env.send(failure("x", 1)).claim(TaskErred)
    assert env.state.explain("x").text
