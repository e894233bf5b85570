"""Runs of shuffles: opening, barrier, lost holders, joins."""

from __future__ import annotations

import random

import pytest

from distributed.shuffle.plan import UNPACK, EndRun, Pin, Recompute, ShufflePlan


def test_a_run_is_opened_once_and_partitions_go_round() -> None:
    plan = ShufflePlan()
    run = plan.open("s", ["a", "b", "c"])
    assert plan.open("s", ["a"]) is run, "others that ask get the same run, whoever is there by then"
    assert [run.holder_of(p) for p in range(5)] == ["a", "b", "c", "a", "b"]


def test_the_barrier_pins_unpacks() -> None:
    plan = ShufflePlan()
    run = plan.open("s", ["a", "b"])
    assert plan.pass_barrier("s", [run.run_id]) == [Pin("s", run.run_id, ("a", "b"))]
    assert run.phase == UNPACK


def test_inputs_of_two_runs_void_the_shuffle() -> None:
    plan = ShufflePlan()
    first = plan.open("s", ["a", "b"])
    plan.lose_holder("b")
    second = plan.open("s", ["a"])
    instructions = plan.pass_barrier("s", [first.run_id, second.run_id])
    assert [type(i) for i in instructions] == [EndRun, Recompute]
    assert not plan.runs
    assert plan.open("s", ["a"]).run_id > second.run_id


def test_a_barrier_without_a_run_is_computed_again() -> None:
    assert [type(i) for i in ShufflePlan().pass_barrier("s", [1])] == [Recompute]


@pytest.mark.parametrize("passed", [False, True])
def test_a_lost_holder_voids_the_runs_it_was_part_of(passed: bool) -> None:
    plan = ShufflePlan()
    run = plan.open("s", ["a", "b"])
    other = plan.open("t", ["a"])
    if passed:
        plan.pass_barrier("s", [run.run_id])
    end, again = plan.lose_holder("b")
    assert isinstance(end, EndRun)
    assert (end.shuffle_id, end.run_id, end.holders) == ("s", run.run_id, ("a", "b"))
    assert isinstance(again, Recompute)
    assert plan.runs == {"t": other}
    assert plan.lose_holder("b") == []


def test_a_worker_that_only_sends_is_not_missed() -> None:
    plan = ShufflePlan()
    plan.open("s", ["a"])
    assert plan.lose_holder("z") == []


def test_both_sides_of_a_join_have_the_same_holders() -> None:
    plan = ShufflePlan()
    left = plan.open("left", ["a", "b"])
    right = plan.open("right", ["b", "a", "c"], partner="left")
    assert right.holders == left.holders
    assert plan.open("alone", ["c"], partner="gone").holders == ("c",)


def test_end_says_whom_to_tell_and_only_once() -> None:
    plan = ShufflePlan()
    run = plan.open("s", ["a"])
    assert plan.end("s", "done") == [EndRun("s", run.run_id, ("a",), "done")]
    assert plan.end("s", "done") == []


def test_a_barrier_that_is_done_must_have_a_run_that_has_passed_it() -> None:
    plan = ShufflePlan()
    assert [type(i) for i in plan.check_passed("s")] == [Recompute]
    run = plan.open("s", ["a"])
    assert [type(i) for i in plan.check_passed("s")] == [EndRun, Recompute]
    run = plan.open("s", ["a"])
    plan.pass_barrier("s", [run.run_id])
    assert plan.check_passed("s") == []


def test_no_worker_at_all() -> None:
    with pytest.raises(ValueError, match="no worker can hold partitions of shuffle s"):
        ShufflePlan().open("s", [])


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_runs_are_consistent(seed: int) -> None:
    """Chance opens, loses, ends and passes; no run names a lost worker, and numbers only grow."""
    rng = random.Random(seed)
    plan = ShufflePlan()
    workers = ["a", "b", "c", "d"]
    newest: dict[str, int] = {}
    for _ in range(200):
        id = rng.choice("xyz")
        match rng.randrange(4):
            case 0 if workers:
                run = plan.open(id, workers, partner=rng.choice("xyz"))
                assert run.run_id >= newest.get(id, 0)
                newest[id] = run.run_id
            case 1 if workers:
                gone = workers.pop(rng.randrange(len(workers)))
                for it in plan.lose_holder(gone):
                    assert not isinstance(it, Pin)
                workers.append(gone + "'")
            case 2:
                named = [newest.get(id, 0) - rng.randrange(2)]
                (*_, last) = plan.pass_barrier(id, named)
                assert isinstance(last, Pin) == (id in plan.runs)
            case 3:
                plan.end(id, "done")
        for run in plan.runs.values():
            assert set(run.holders) <= set(workers)
