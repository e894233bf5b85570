"""Tasks that are handed over behind the run of their only missing input, and what becomes of them."""

from __future__ import annotations

from typing import Any

import pytest

from distributed.messages.rules import RunRules
from distributed.messages.scheduler_to_worker import ComputeTask, SetStatus, StealRequest
from distributed.messages.worker_to_scheduler import (
    StealResponse,
    TaskErred,
    TaskFinished,
    TaskLongRunning,
    TaskRescheduled,
    WhoHas,
    WorkerStatus,
)
from distributed.worker.state_machine import InvalidState
from distributed.worker.state_machine.events import ExecuteLongRunning, ExecuteRescheduled, ExecuteSkipped
from distributed.worker.state_machine.instructions import CancelExecute, Execute, StoreResult
from tests.unit.worker.state_machine.env import A, Env, a_task, failure, free, success

SHORT_S = 0.001


def short(key: str, run_id: int, *needs: Any, **fields: Any) -> ComputeTask:
    """An order for a task that takes a millisecond."""
    return a_task(key, run_id, *needs, **{"duration_s": SHORT_S, **fields})


def handed(env: Env) -> dict[str, int]:
    """What was handed over, in order, and behind which run; -1: behind none."""
    return {item.key: item.after for item in env.claim_all(Execute)}


def counted(env: Env) -> list[str]:
    """Keys of values that were kept and reported."""
    keys = [message.key for message in env.claim_all(TaskFinished)]
    assert keys == [item.key for item in env.claim_all(StoreResult)]
    return keys


def taken_back(env: Env) -> list[int]:
    return [item.run_id for item in env.claim_all(CancelExecute)]


def pair(env: Env) -> None:
    """``y`` lies behind ``x``."""
    env.send(short("x", 1), short("y", 2, "x"))
    assert handed(env) == {"x": -1, "y": 1}


def test_a_chain_is_handed_over_at_once_and_takes_one_slot(env):
    env.send(*[short(f"x{i}", i, *[f"x{i - 1}"] if i > 1 else []) for i in range(1, 5)])
    assert handed(env) == {"x1": -1, "x2": 1, "x3": 2, "x4": 3}
    assert env.states() == dict.fromkeys(["x1", "x2", "x3", "x4"], "executing")
    for i in range(1, 5):
        assert env.state.slots_used == 1
        assert env.state.backlog_s == pytest.approx((5 - i) * SHORT_S)
        env.send(success(f"x{i}", i))
    assert env.state.slots_used == 0 and env.state.backlog_s == 0.0
    assert counted(env) == ["x1", "x2", "x3", "x4"]


def test_it_waits_in_vain_for_no_other_input(env):
    env.send(short("w", 1), short("x", 2), short("y", 3, "x", "w"))
    assert handed(env) == {"w": -1, "x": -1}, "two inputs are missing"
    env.send(success("w", 1))
    counted(env)
    env.send(short("z", 4, "w", "x"))
    assert handed(env) == {"y": 2, "z": 2}, "one is here"


def test_one_that_comes_later_joins_a_run_that_is_with_the_executor_already(env):
    env.send(short("x", 1))
    assert handed(env) == {"x": -1}
    env.send(short("y", 2, "x"))
    assert handed(env) == {"y": 1}


@pytest.mark.parametrize(
    "fields",
    [
        {"duration_s": -1.0},
        {"duration_s": 0.005},
        {"resources": {"GPU": 1}},
        {"rules": RunRules(5.0)},
        {"actor": True},
        {"executor": "special"},
    ],
    ids=lambda fields: next(iter(fields)),
)
@pytest.mark.parametrize("which", ["x", "y"])
def test_only_short_plain_tasks_are_handed_over_so(make_env, fields, which):
    env = make_env(nthreads=4, resources={"GPU": 1})
    env.send(short("x", 1, **(fields if which == "x" else {})), short("y", 2, "x", **(fields if which == "y" else {})))
    assert handed(env) == {"x": -1}
    env.send(success("x", 1))
    assert counted(env) == ["x"]
    assert handed(env) == {"y": -1}


def test_a_duration_that_was_learnt_here_will_do(env):
    env.send(a_task("x", 1))
    assert handed(env) == {"x": -1}
    env.send(success("x", 1, duration_s=SHORT_S), a_task("y", 2), a_task("z", 3, "y"))
    assert handed(env) == {"y": -1, "z": 2}
    counted(env)


def test_an_alias_may_lie_behind_its_source(env):
    env.send(short("x", 1), short("y", 2, "x", alias=True))
    assert handed(env) == {"x": -1, "y": 1}


def test_many_dependents_are_left_to_the_queue(make_env):
    for n, expected in ((4, 1), (5, None)):
        env = make_env(nthreads=4)
        env.send(short("x", 1), *[short(f"y{i}", 2 + i, "x") for i in range(n)])
        found = handed(env)
        assert found.pop("x") == -1
        assert list(found.values()) == [expected] * n if expected else not found


def test_many_dependents_that_come_to_a_run_in_one_batch_are_left_to_the_queue_too(make_env):
    env = make_env(nthreads=4)
    env.send(short("x", 1))
    env.send(*[short(f"y{i}", 2 + i, "x") for i in range(5)])
    assert handed(env) == {"x": -1}


@pytest.mark.parametrize("kind", ["ready", "constrained"])
def test_what_is_more_urgent_and_ready_comes_first(make_env, kind):
    env = make_env(resources={"GPU": 1})
    env.send(short("x", 1))
    assert handed(env) == {"x": -1}
    env.send(a_task("urgent", 2, rank=0, resources={"GPU": 1} if kind == "constrained" else None), short("y", 3, "x"))
    assert env.states() == {"x": "executing", "urgent": kind, "y": "waiting"}
    env.send(success("x", 1))
    assert handed(env) == {"urgent": -1}
    counted(env)


def test_what_is_less_urgent_waits(env):
    env.send(short("x", 1))
    assert handed(env) == {"x": -1}
    env.send(a_task("later", 9), short("y", 3, "x"))
    assert handed(env) == {"y": 1}


def test_the_backlog_bounds_the_chain_and_each_end_makes_room(env):
    env.send(*[short(f"x{i}", i, *[f"x{i - 1}"] if i > 1 else []) for i in range(1, 9)])
    assert list(handed(env)) == ["x1", "x2", "x3", "x4", "x5"], "five milliseconds"
    assert env.states()["x6"] == "waiting" and env.state.followers.leads
    env.send(success("x1", 1))
    assert handed(env) == {"x6": 5}
    env.send(success("x2", 2), success("x3", 3))
    assert handed(env) == {"x7": 6, "x8": 7}
    assert counted(env) == ["x1", "x2", "x3"]


def test_nothing_lies_behind_without_a_share(make_env):
    env = make_env(handover_s=0.0)
    env.send(short("x", 1), short("y", 2, "x"))
    assert handed(env) == {"x": -1}


def test_nothing_is_handed_over_behind_a_run_while_paused(env):
    env.send(short("x", 1))
    assert handed(env) == {"x": -1}
    env.send(SetStatus("paused"), short("y", 2, "x"))
    assert env.states()["y"] == "waiting"
    env.send(SetStatus("running"))
    assert handed(env) == {"y": 1}
    env.claim(WorkerStatus)


def test_what_may_lead_is_forgotten_with_its_run(env):
    env.send(short("x", 1), SetStatus("paused"), short("y", 2))
    env.send(SetStatus("running"))
    env.claim(WorkerStatus)
    assert handed(env) == {"x": -1, "y": -1}
    env.send(SetStatus("paused"), short("a", 3, "x"), short("b", 4, "y"))
    assert [ts.key for ts in env.state.followers.leads] == ["x", "y"]
    env.send(failure("x", 1), ExecuteLongRunning("y", 2, 0.1))
    assert not env.state.followers.leads
    env.claim(TaskErred), env.claim(TaskLongRunning)


def test_several_behind_one_run_take_a_slot_each_when_it_has_ended(env):
    env.send(short("x", 1), short("a", 2, "x"), short("b", 3, "x"))
    assert handed(env) == {"x": -1, "a": 1, "b": 1}
    assert env.state.slots_used == 1
    env.send(success("x", 1))
    assert env.state.slots_used == 2
    env.send(success("b", 3), success("a", 2))
    assert env.state.slots_used == 0
    assert counted(env) == ["x", "b", "a"]


def test_it_cannot_be_stolen(env):
    pair(env)
    env.send(StealRequest("y", 2))
    assert not env.claim(StealResponse).given


@pytest.mark.parametrize("end", [failure("x", 1), ExecuteRescheduled("x", 1)], ids=["raises", "reschedules"])
def test_without_a_value_those_behind_it_wait_again(env, end):
    env.send(short("x", 1), short("y", 2, "x"), short("z", 3, "y"))
    assert list(handed(env)) == ["x", "y", "z"]
    env.send(end, ExecuteSkipped(2), ExecuteSkipped(3))
    assert len(env.claim_all(TaskErred) + env.claim_all(TaskRescheduled)) == 1
    assert env.claim(WhoHas).keys == ["x"]
    assert env.states() == {"x": "missing", "y": "waiting", "z": "waiting"}
    assert (env.state.slots_used, env.state.backlog_s) == (0, 0.0)
    env.send(short("x", 4))
    assert handed(env) == {"x": -1, "y": 4, "z": 2}, "the same runs of y and z, which were not begun"
    env.send(success("x", 4), success("y", 2), success("z", 3))
    assert counted(env) == ["x", "y", "z"]


def test_given_up_with_its_input(env):
    pair(env)
    env.send(free("x", "y"))
    assert set(taken_back(env)) == {1, 2}
    assert env.states() == {"x": "cancelled", "y": "cancelled"} and not env.state.followers.void
    env.send(ExecuteSkipped(2))
    assert env.state.slots_used == 1
    env.send(success("x", 1))
    assert env.states() == {} and env.state.slots_used == 0


@pytest.mark.parametrize("how", ["freed", "ordered anew"])
def test_when_its_input_is_given_up_it_is_taken_back_with_all_behind_it(env, how):
    env.send(short("x", 1), short("y", 2, "x"), short("z", 3, "y"))
    handed(env)
    env.send(free("x") if how == "freed" else short("x", 4))
    assert taken_back(env) == [1, 2, 3]
    assert env.state.followers.void == {2, 3}
    assert "taken back" in env.state.explain("y").text
    if how == "ordered anew":
        assert handed(env) == {"x": -1}
    env.send(ExecuteSkipped(2), ExecuteSkipped(3))
    assert env.states()["y"] == env.states()["z"] == "waiting" and not env.state.followers.void
    if how == "freed":
        assert env.claim(WhoHas).keys == ["x"]
        assert env.states()["x"] == "missing"
    else:
        env.send(success("x", 4))
        assert counted(env) == ["x"]
        assert handed(env) == {"y": -1, "z": 2}


@pytest.mark.parametrize("end", [success("y", 2), failure("y", 2), ExecuteRescheduled("y", 2)])
def test_when_its_input_is_given_up_after_it_has_begun_its_end_does_not_count(env, end):
    pair(env)
    env.send(free("x"))
    assert taken_back(env) == [1, 2]
    env.send(success("x", 1), end)  # both had ended before
    report = env.claim(TaskRescheduled)
    assert (report.key, report.run_id) == ("y", 2), "a run begins once: the scheduler orders another"
    assert env.states() == {}
    assert (env.state.slots_used, env.state.backlog_s, env.state.executed_count) == (0, 0.0, 0)


def test_a_void_run_that_is_given_up_too_is_like_any_other(env):
    pair(env)
    env.send(free("x"))
    env.send(free("y"))
    assert set(taken_back(env)) == {1, 2} and not env.state.followers.void
    env.send(success("x", 1), success("y", 2))
    assert env.states() == {}


def test_nothing_is_lined_up_behind_a_void_run(env):
    pair(env)
    env.send(free("x"))
    env.send(short("z", 3, "y"))
    assert env.states()["z"] == "waiting" and handed(env) == {}
    taken_back(env)


def test_the_run_goes_behind_a_newer_one_while_the_older_has_not_ended(env):
    """The end of the older one says nothing about it any more."""
    pair(env)
    env.send(free("x"))
    env.send(ExecuteSkipped(2))
    env.claim(WhoHas), taken_back(env)
    env.send(short("x", 5))
    assert handed(env) == {"x": -1, "y": 5}
    assert env.state.slots_used == 2
    env.send(success("x", 1))
    assert env.state.slots_used == 1, "y does not begin by that"
    assert "behind the run of its input 'x'" in env.state.explain("y").text
    env.send(success("x", 5), success("y", 2))
    assert counted(env) == ["x", "y"]


def test_nothing_stays_behind_a_run_that_secedes(env):
    pair(env)
    env.send(ExecuteLongRunning("x", 1, 0.5))
    env.claim(TaskLongRunning)
    assert taken_back(env) == [2]
    assert env.state.counts()["long-running"] == 1 and env.state.slots_used == 0
    env.send(short("z", 3, "x"))
    assert handed(env) == {}
    env.send(ExecuteSkipped(2))
    assert env.states() == {"x": "long-running", "y": "waiting", "z": "waiting"}
    env.send(success("x", 1))
    assert set(handed(env)) == {"y", "z"}
    assert counted(env) == ["x"]


def test_the_end_of_one_that_had_begun_behind_a_run_that_secedes_does_not_count(env):
    """It left its slot, came back and returned: the news comes in one batch."""
    pair(env)
    env.send(ExecuteLongRunning("x", 1, 0.5), success("x", 1), success("y", 2))
    assert counted(env) == ["x"]
    env.claim(TaskLongRunning)
    assert env.claim(TaskRescheduled).key == "y"
    assert taken_back(env) == [2]
    assert env.state.slots_used == 0


def test_a_run_behind_another_that_was_given_up_holds_no_slot(make_env):
    env = make_env(nthreads=2)
    pair(env)
    env.send(free("y"))
    assert taken_back(env) == [2]
    assert (env.state.slots_used, env.state.held_slots) == (1, 0)
    env.send(success("x", 1))
    assert (env.state.slots_used, env.state.held_slots) == (1, 1), "it had begun, as far as one knows"
    env.send(ExecuteSkipped(2))
    assert (env.state.slots_used, env.state.held_slots) == (0, 0)
    counted(env)


def test_an_input_that_is_lost_after_it_has_begun_does_no_harm(env):
    pair(env)
    env.send(success("x", 1))
    counted(env)
    env.send(free("x"))
    assert not taken_back(env)
    env.send(success("y", 2))
    assert counted(env) == ["y"]
    env.open.clear()


def test_inputs_from_peers_are_fetched_first(env):
    env.send(short("x", 1), short("y", 2, "x", ("p", A)))
    assert handed(env) == {"x": -1} and env.gathered() == {A: ["p"]}


def test_explain(env):
    pair(env)
    assert env.state.explain("y").text == "with the executor, behind the run of its input 'x', for 0 s"
    env.send(success("x", 1))
    assert env.state.explain("y").text == "with the executor for 0 s"
    counted(env)


def lose_a_follower(env: Env) -> None:
    env.state.followers.behind.clear()


def secede_alone(env: Env) -> None:
    env.state.tasks["x"].state = "long-running"
    env.state.slots_used -= 1
    env.state.backlog_s -= SHORT_S


def void_for_nothing(env: Env) -> None:
    env.state.followers.void.add(77)


def lead_from_the_past(env: Env) -> None:
    ts = env.state.tasks["x"]
    env.state.followers.leads[ts] = None
    env.state.followers.void.add(1)


@pytest.mark.parametrize(
    ("bug", "rule"),
    [
        (lose_a_follower, "both directions agree"),
        (secede_alone, "has its slot"),
        (void_for_nothing, "only wanted runs are void"),
        (lead_from_the_past, "counts"),
    ],
)
def test_validate_finds(bug, rule):
    env = Env()
    pair(env)
    bug(env)
    with pytest.raises(InvalidState, match=rule):
        env.state.validate()
