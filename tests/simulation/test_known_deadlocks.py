"""Situations in which schedulers of this kind are known to have hung or lost data, one scenario each."""

from __future__ import annotations

from distributed.messages.client_to_scheduler import (
    DataScattered,
    ReleaseKeys,
    ReplicaOnWorkers,
)
from distributed.messages.scheduler_to_client import KeyInMemory, KeysCancelled, KeysLost
from distributed.messages.scheduler_to_worker import SetStatus, StealRequest
from distributed.scheduler.state_machine.events import RetireWorkers
from tests.simulation.stage import Stage, address, task


def test_a_worker_retires_while_another_fetches_from_it():
    """The copy for the retirement goes elsewhere, the worker closes, and the fetch under way fails: the fetcher finds
    the copy, and nothing is computed twice."""
    stage = Stage({"a": 1, "b": 1, "d": 1})
    stage.submit(task("x"), workers=("a",))
    stage.down("a")
    stage.finish("a")
    stage.up("a")
    stage.submit(task("y", "x"), workers=("b",))
    stage.down("b")
    assert stage.actors["b"].fetches == {address("a"): ["x"]}  # under way
    stage.tell(RetireWorkers([address("a")]))
    taker = next(name for name in ("b", "d") if stage.actors[name].inbox)
    assert taker == "d" or stage.actors["b"].fetches
    if taker == "d":
        stage.down("d")
        stage.answer("d")
        stage.up("d")
        stage.down("a")  # told to close
        assert "a" not in stage.actors
    stage.settle()
    assert stage.state("x") == stage.state("y") == "memory"
    assert [end.retired for end in stage.ended] == [True]
    assert not any(type(m) is KeysLost for m in stage.told)


def test_a_task_that_was_given_up_and_wanted_again_is_stolen():
    """Its first run still holds the only slot; the second one waits behind it and is asked back."""
    stage = Stage({"a": 1}, steal_backlog_s=0.001, steal_interval_s=0.1, saturation=10.0)
    stage.submit(task("x"))
    stage.down("a")
    first = stage.scheduler.tasks["x"].run_id
    stage.tell(ReleaseKeys(["x"]), "c")
    stage.submit(task("x"), task("z"))
    stage.down("a")
    assert stage.actors["a"].core.tasks["x"].state == "ready" and list(stage.actors["a"].running) == [first]
    second = stage.scheduler.tasks["x"].run_id
    stage.join("b")
    stage.event("a", StealRequest("x", second))
    stage.up("a")
    assert stage.scheduler.tasks["x"].run_id != second or stage.state("x") != "processing"
    stage.finish("a", "x")  # the run that nobody wants any more
    assert not [m for m in stage.actors["a"].outbox if getattr(m, "run_id", None) == first]
    stage.settle()
    assert stage.state("x") == stage.state("z") == "memory"
    assert sum([actor.ran.count("x") for actor in stage.actors.values()]) == 2


def test_tasks_that_secede_make_room_for_the_queue():
    """Each task secedes and waits for others that are queued behind it: they get the slots."""
    stage = Stage({"a": 1}, saturation=1.0, prefetch_s=0.0)
    stage.submit(*[task(("parent", i)) for i in range(4)], *[task(("child", i)) for i in range(4)])
    assert len(stage.scheduler.queued)
    for i in range(4):
        stage.down("a")
        assert stage.runs("a")[-1] == ("parent", i)
        stage.secede("a", ("parent", i))
        stage.up("a")
    for i in range(4):
        stage.down("a")
        assert stage.runs("a")[-1] == ("child", i)  # all parents still wait
        stage.finish("a", ("child", i))
        stage.up("a")
    stage.settle()
    assert all(stage.state((name, i)) == "memory" for name in ("parent", "child") for i in range(4))
    assert not stage.scheduler.workers[address("a")].long_running


def test_an_input_of_queued_tasks_is_lost():
    """What is queued waits again for its input, which is computed again, and nothing else happens to it."""
    stage = Stage({"a": 1, "b": 1}, saturation=1.0, prefetch_s=0.0)
    stage.submit(task("x"), workers=("a",), allow_other_workers=True)
    stage.down("a")
    stage.finish("a")
    stage.up("a")
    stage.submit(*[task(("many", i), "x") for i in range(12)])
    queued = [ts.key for ts in stage.scheduler.queued]
    assert queued
    stage.kill("a")
    assert stage.state("x") in ("processing", "queued", "waiting")
    assert all(stage.state(key) == "waiting" for key in queued)
    stage.settle()
    assert all(stage.state(("many", i)) == "memory" for i in range(12))


def test_an_input_of_queued_tasks_is_released_with_them():
    """The client gives up everything while tasks are queued: nothing remains."""
    stage = Stage({"a": 1}, saturation=1.0, prefetch_s=0.0)
    stage.submit(task("x"))
    stage.settle(2)
    stage.submit(*[task(("many", i), "x") for i in range(12)])
    assert len(stage.scheduler.queued)
    stage.tell(ReleaseKeys(["x"]), "c")
    assert stage.state("x") == "memory"  # still needed
    stage.tell(ReleaseKeys([("many", i) for i in range(12)]), "c")
    stage.settle(3)
    assert not stage.scheduler.tasks and not stage.actors["a"].core.tasks


def test_a_worker_that_is_to_close_gives_back_what_it_has_not_started():
    """Orders that cross the news come back too; a retirement that fails leaves a worker that works on."""
    stage = Stage({"a": 1}, saturation=10.0)
    stage.submit(*[task(f"x-{i}") for i in range(3)])
    stage.down("a")
    stage.finish("a")
    stage.up("a")
    stage.submit(task("late"))  # crosses
    stage.tell(RetireWorkers([address("a")]))
    assert [end.retired for end in stage.ended] == [False]  # nobody can take its data
    statuses = [m.status for m in stage.actors["a"].inbox if type(m) is SetStatus]
    assert statuses == ["closing_gracefully", "running"]
    stage.settle()
    assert all(stage.state(key) == "memory" for key in ("x-0", "x-1", "x-2", "late"))
    stage.join("b")
    stage.submit(*[task(f"y-{i}") for i in range(4)], workers=("a",), allow_other_workers=True)
    stage.down("a")
    stage.tell(RetireWorkers([address("a")]))
    stage.settle()
    assert "a" not in stage.actors
    assert all(stage.state(f"y-{i}") == "memory" for i in range(4))


def test_the_taker_of_a_retirement_retires_too():
    """Scattered data on its way from one worker that leaves to another that is told to leave meanwhile: a third one
    gets it before either goes."""
    stage = Stage({"a": 1, "b": 1, "d": 1})
    stage.put("a", "data")
    stage.tell(DataScattered([ReplicaOnWorkers("data", (address("a"),), 8)]), "c")
    stage.tell(RetireWorkers([address("a")]))
    taker = next(name for name in ("b", "d") if stage.actors[name].inbox)
    other = "d" if taker == "b" else "b"
    stage.tell(RetireWorkers([address(taker)]))  # its copy is still on its way
    stage.settle()
    assert list(stage.actors) == [other]
    assert stage.actors[other].store == {"data"}
    assert not any(type(m) is KeysCancelled for m in stage.told)
    assert {type(m) for m in stage.told} == {KeyInMemory}


def test_two_workers_with_the_only_copies_retire_at_once():
    """Each must not take the other's copy for the one that stays."""
    stage = Stage({"a": 1, "b": 1, "d": 1})
    for name in ("a", "b"):
        stage.put(name, "data")
    stage.tell(DataScattered([ReplicaOnWorkers("data", (address("a"), address("b")), 8)]), "c")
    stage.tell(RetireWorkers([address("a"), address("b")]))
    stage.settle()
    assert list(stage.actors) == ["d"] and stage.actors["d"].store == {"data"}
