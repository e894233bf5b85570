"""Values between memory and disk: which go, which come back, what waits meanwhile."""

from __future__ import annotations

from typing import Any

from distributed.base.keys import Key
from distributed.messages.payload import ErrorInfo
from distributed.messages.worker_to_scheduler import ReplicasAdded, TaskFinished, TaskLongRunning
from distributed.worker.state_machine.events import DataUpdated, ExecuteLongRunning, MemoryHigh, SpillEnded
from distributed.worker.state_machine.instructions import (
    CancelExecute,
    Evict,
    Execute,
    RemoveFiles,
    Spill,
    StoreFetched,
    StoreResult,
    Unload,
)
from tests.unit.worker.state_machine.env import A, Env, a_task, arrived, free, success

CANNOT = ErrorInfo("TypeError", "no")


def small(**settings: Any) -> Env:
    """A worker with room for three values of 10 bytes; tasks wait above four."""
    return Env(**{"min_spill_nbytes": 10, "target_nbytes": 30, "hold_nbytes": 40, **settings})


def hold(env: Env, *keys: Key, nbytes: int = 10) -> None:
    """Values from outside."""
    for key in keys:
        env.send(DataUpdated({key: nbytes}))


def run(env: Env, order: Any, **fields: Any) -> None:
    """A task is handed over and returns."""
    env.send(order)
    env.claim(Execute)
    env.send(success("f", 1, **{"nbytes": 0, **fields}))
    env.claim(StoreResult), env.claim(TaskFinished)


def written(env: Env) -> list[Key]:
    """Let all that is to be written be written."""
    keys: list[Key] = []
    for order in env.claim_all(Spill):
        for key in order.keys:
            env.send(SpillEnded(key, order.number, 12))
            keys.append(key)
    return keys


def test_what_was_used_least_recently_goes() -> None:
    env = small()
    hold(env, "a", "b", "c")
    run(env, a_task("f", 1, "a"))
    env.done()
    hold(env, "d")
    assert written(env) == ["b"]
    assert env.state.resident_nbytes == 30 and env.state.managed_nbytes == 40
    hold(env, "e")
    assert written(env) == ["c"]
    env.done()


def test_a_task_brings_its_input_back_and_a_second_way_out_costs_nothing() -> None:
    env = small()
    hold(env, "a", "b", "c", "d")
    assert written(env) == ["a"]
    env.send(a_task("f", 1, "a"))
    assert env.executed() == ["f"]
    assert written(env) == ["b"]
    env.send(success("f", 1, 0))
    env.claim(StoreResult), env.claim(TaskFinished)
    hold(env, "e", "g")
    assert written(env) == ["c", "d"]
    hold(env, "h")
    assert env.claim(Unload).keys == ["a"]
    env.done()


def test_a_value_in_use_stays() -> None:
    env = small(target_nbytes=5)
    env.send(DataUpdated({"a": 10}), a_task("f", 1, "a"))
    assert env.executed() == ["f"]
    env.done()
    env.send(success("f", 1))
    env.claim(StoreResult), env.claim(TaskFinished)
    assert written(env) == ["a"]
    env.done()


def test_tasks_and_fetches_wait_until_something_has_left() -> None:
    env = small()
    hold(env, *"abcde")
    orders = env.claim_all(Spill)
    assert [order.keys for order in orders] == [["a"], ["b"]]
    env.send(a_task("f", 1), a_task("g", 2, ("x", A)), a_task("h", 3, ("y", "tcp://10.0.0.9:1")))
    assert len(env.gathered()) == 1
    assert "memory is full" in env.state.explain("f").text
    env.done()
    env.send(SpillEnded("a", orders[0].number, 12))
    assert env.executed() == ["f"]
    assert len(env.gathered()) == 1
    env.done()


def learned(env: Env, *keys: Key) -> None:
    """Runs of ``f`` have made values of 10 bytes; they are short, as the scheduler knows."""
    for run_id, key in enumerate(keys, 101):
        env.send(a_task(key, run_id, duration_s=1e-4))
        env.claim(Execute)
        env.send(success(key, run_id, 10))
        env.claim(StoreResult), env.claim(TaskFinished)


def test_what_is_handed_over_ahead_of_time_has_room_for_its_result() -> None:
    """However short the runs: what lies with the executor is made before the core hears of any of it."""
    env = small(hold_nbytes=45)
    env.send(*[a_task(f"x-{i}", i, duration_s=1e-4) for i in range(8)])
    assert env.executed() == ["x-0"]  # how much one makes is not known
    env.send(success("x-0", 0, 10))
    env.claim(StoreResult), env.claim(TaskFinished)
    assert env.executed() == ["x-1", "x-2", "x-3"]  # and there will be 40 bytes
    env.send(*[success(f"x-{i}", i, 10) for i in (1, 2, 3)])
    env.claim_all(StoreResult), env.claim_all(TaskFinished)
    assert env.executed() == ["x-4"]  # in the free slot, as nothing was on its way to disk
    env.send(success("x-4", 4, 10))
    env.claim(StoreResult), env.claim(TaskFinished)
    first, second = env.claim_all(Spill)
    assert first.keys == ["x-0"] and second.keys == ["x-1"]
    env.send(SpillEnded("x-0", first.number, 12))
    assert "memory is full" in env.state.explain("x-5").text
    assert not env.executed()  # it would be 50
    env.send(SpillEnded("x-1", second.number, 12))
    assert env.executed() == ["x-5"]
    env.done()


def test_a_chain_is_lined_up_as_far_as_there_is_room() -> None:
    env = small(target_nbytes=30, hold_nbytes=30)
    learned(env, "a")
    env.send(*[a_task(f"x-{i}", i, *[f"x-{i - 1}"][: i > 1], duration_s=1e-4) for i in range(1, 5)])
    assert env.executed() == ["x-1", "x-2"]
    env.send(success("x-1", 1, 10), free("a"))
    env.claim(StoreResult), env.claim(TaskFinished), env.claim(Evict)
    assert env.executed() == ["x-3"]
    env.done()


def test_inputs_on_disk_need_room_when_they_come_back() -> None:
    env = small()
    learned(env, "a")
    hold(env, *"bcde")
    assert written(env) == ["a", "b"]
    env.send(*[a_task(f"sum-{key}", i, key, duration_s=1e-4) for i, key in enumerate("ab", 1)])
    assert env.executed() == ["sum-a"]
    assert written(env) == ["c"]
    env.send(free("d"))
    env.claim(Evict)
    assert not env.executed()
    env.send(free("e"))
    env.claim(Evict)
    assert env.executed() == ["sum-b"]  # 10 that are here, 10 from disk, and twice 10 to be made
    env.done()


def test_inputs_on_disk_need_room_also_for_a_run_that_makes_nothing() -> None:
    env = small()
    run(env, a_task("f", 1), nbytes=0)
    hold(env, *"abcde")
    assert written(env) == ["a", "b"]
    env.send(*[a_task(f"sum-{key}", i, key, duration_s=1e-4) for i, key in enumerate("ab", 2)])
    assert env.executed() == ["sum-a"]
    assert env.state.coming_nbytes == 0 and not env.executed()


def test_a_run_that_is_given_up_or_seceded_books_nothing_any_more() -> None:
    env = small()
    learned(env, "a")
    env.send(a_task("x", 1, duration_s=1e-4))
    assert env.executed() == ["x"] and env.state.coming_nbytes == 10
    env.send(ExecuteLongRunning("x", 1, 0.1))
    assert env.state.coming_nbytes == 0
    env.claim(TaskLongRunning)
    env.send(a_task("y", 2, duration_s=1e-4))
    assert env.executed() == ["y"]
    env.send(free("y"))
    assert env.state.coming_nbytes == 10  # it goes on
    env.claim(CancelExecute)
    env.send(success("y", 2, 10))
    assert env.state.coming_nbytes == 0
    env.done()


def test_a_disk_that_takes_nothing_is_tried_again_and_nothing_is_lost() -> None:
    env = small(spill_retry_s=5.0)
    hold(env, *"abcdef")
    for order in env.claim_all(Spill):
        env.send(*[SpillEnded(key, order.number, error="no space") for key in order.keys])
    env.done()
    assert env.state.resident_nbytes == 60
    assert env.state.spilling.blocked == "no space"
    env.send(a_task("new", 1))
    assert env.executed() == ["new"]  # nothing leaves: no reason to wait
    env.wait(4.0).done()
    env.wait(1.0)
    assert written(env) == ["d", "e", "f"]
    assert env.state.spilling.blocked == ""
    env.done()


def test_a_full_disk_makes_room_of_files_that_are_not_needed() -> None:
    env = small()
    hold(env, *"abcd")
    assert written(env) == ["a"]
    env.send(a_task("f", 1, "a"))
    env.claim(Execute)
    order = env.claim(Spill)
    env.send(SpillEnded("b", order.number, error="no space"))
    assert env.claim(RemoveFiles).keys == ["a"]
    env.done()


def test_what_cannot_be_pickled_stays_and_is_not_tried_again() -> None:
    env = small(target_nbytes=5)
    hold(env, "a")
    env.send(SpillEnded("a", env.claim(Spill).number, error="TypeError", lasting=True))
    hold(env, "b")
    assert written(env) == ["b"]
    run(env, a_task("f", 1), nbytes=10, unshippable=CANNOT)
    env.send(MemoryHigh(1000))
    env.done()


def test_max_spill() -> None:
    env = small(target_nbytes=5, most_spilled_nbytes=15)
    hold(env, "a", "b")
    assert written(env) == ["a"]
    env.send(free("a"))
    env.claim(Evict)
    assert written(env) == ["b"]
    env.send(a_task("f", 1, "b"))
    env.claim(Execute)
    assert env.claim(RemoveFiles).keys == ["b"]
    assert env.state.spilling.disk_nbytes == 0
    env.done()


def test_freed_while_it_leaves_and_made_again() -> None:
    env = small(target_nbytes=5)
    hold(env, "a")
    first = env.claim(Spill)
    env.send(free("a"))
    env.claim(Evict)
    hold(env, "a")
    second = env.claim(Spill)
    env.send(SpillEnded("a", first.number, 12))
    assert env.state.spilling.absent_nbytes == 0
    env.send(SpillEnded("a", second.number, 12))
    assert env.state.spilling.absent_nbytes == 10
    env.send(free("a"))
    env.claim(Evict)
    assert not env.state.spilling.files and not env.state.spilling.disk_nbytes
    env.done()


def test_another_value_under_the_same_key() -> None:
    env = small(target_nbytes=5)
    hold(env, "a")
    written(env)
    hold(env, "a", nbytes=20)
    assert env.state.managed_nbytes == 20
    assert written(env) == ["a"]
    assert env.state.spilling.absent_nbytes == 20
    env.done()


def test_small_values_and_actors_stay() -> None:
    env = small(target_nbytes=5)
    hold(env, "a", nbytes=9)
    run(env, a_task("f", 1, actor=True), nbytes=50)
    env.done()


def test_the_process_takes_more_than_its_values_account_for() -> None:
    env = small(target_nbytes=100)
    hold(env, "a", "b", "c")
    env.send(MemoryHigh(15))
    assert env.claim(Spill).keys == ["a", "b"]
    env.send(MemoryHigh(15))  # seen again before they have left
    env.done()


def test_fetches_bring_so_much_at_once() -> None:
    env = Env(transfer_nbytes=10, gather_nbytes=8)
    env.send(a_task("f", 1, ("x", A), ("y", "tcp://10.0.0.8:1"), ("z", "tcp://10.0.0.9:1")))
    assert len(env.gathered()) == 2  # 8 bytes each
    env.send(arrived(A, "x"))
    env.claim(StoreFetched), env.claim(ReplicasAdded)
    assert len(env.gathered()) == 1
    env.done()
