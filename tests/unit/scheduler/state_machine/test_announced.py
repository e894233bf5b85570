"""Data that a client is about to put on workers: what may happen until it is there."""

from __future__ import annotations

from typing import Any

import pytest

from distributed.messages.client_to_scheduler import (
    DataAnnounced,
    DataScattered,
    DataWithdrawn,
    FireAndForget,
    ReplicaOnWorkers,
    WantKeys,
)
from distributed.messages.scheduler_to_client import KeyInMemory, KeysCancelled
from distributed.messages.scheduler_to_worker import ComputeTask, FreeKeys
from distributed.messages.worker_to_scheduler import DataReceived, MissingData, TaskFinished, WhoHas
from distributed.scheduler.state_machine.events import ClientLeft, Restart
from tests.unit.scheduler.state_machine.environment import TestEnv, a_task


def announce(env: TestEnv, *keys: str, number: int = 1, client: str = "c") -> None:
    env.event(DataAnnounced(number, list(keys)), client)


def withdraw(env: TestEnv, *keys: str, number: int = 1, client: str = "c") -> None:
    env.event(DataWithdrawn(number, list(keys)), client)


def place(env: TestEnv, key: str, *names: str, number: int = 1, client: str = "c") -> None:
    replica = ReplicaOnWorkers(key, tuple([f"tcp://{name}:1" for name in names]), 100, "bytes")
    env.event(DataScattered([replica], number), client)


def kinds(messages: list[Any]) -> list[type]:
    return [type(message) for message in messages]


def test_what_is_announced_is_wanted_and_waits_for_the_client() -> None:
    with TestEnv({"a": 1}) as env:
        announce(env, "x")
        assert env.states() == {"x": "waiting"}
        why = env.state.explain("x").text
        assert "scattered" in why and "c" in why
        place(env, "x", "a")
        assert env.states() == {"x": "memory"} and env.holders("x") == ["a"]
        assert not env.state.announced
        assert kinds(env.told()) == [KeyInMemory]
        env.release("x")
        assert kinds(env.sent("a")) == [FreeKeys]
        assert not env.state.tasks


def test_an_order_to_forget_is_not_made_while_the_data_is_on_its_way() -> None:
    """Late reports about an older value of the same key, which nobody wants."""
    with TestEnv({"a": 1, "b": 1}) as env:
        env.submit(a_task("x"))
        (first,) = env.computes(env.where("x"))
        on = env.where("x")
        env.release("x")
        assert kinds(env.sent(on)) == [FreeKeys]
        announce(env, "x")
        env.event(TaskFinished("x", first.run_id, 8, 0.1, "int"), f"tcp://{on}:1")
        env.replica("x", "a")
        env.replica("x", "b")
        env.event(WhoHas(["x"]), "tcp://a:1")
        assert not env.sent("a") and not env.sent("b")
        place(env, "x", "a")
        assert kinds(env.told()) == [KeyInMemory]
        assert not env.sent("a")
        (order,) = env.sent("b")  # that was an older copy
        assert type(order) is FreeKeys and order.keys == ["x"]


def test_two_clients_place_the_same_data() -> None:
    with TestEnv({"a": 1, "b": 1}, clients="cd") as env:
        announce(env, "x")
        announce(env, "x", client="d")
        place(env, "x", "a")
        env.release("x")
        env.event(DataReceived(["x"]), "tcp://b:1")  # the data of the other has come there
        assert env.holders("x") == ["a"]
        assert not env.sent("a") and not env.sent("b")
        place(env, "x", "b", client="d")
        assert not env.state.announced
        env.told("c"), env.told("d")
        env.release("x", client="d")
        assert kinds(env.sent("a") + env.sent("b")) == [FreeKeys, FreeKeys]


def test_a_scatter_that_fails_leaves_nothing_behind() -> None:
    with TestEnv({"a": 1}) as env:
        announce(env, "x")
        env.event(DataReceived(["x"]), "tcp://a:1")  # part of it had arrived
        env.release("x")
        withdraw(env, "x")
        (order,) = env.sent("a")
        assert type(order) is FreeKeys and not env.state.tasks and not env.state.announced


@pytest.mark.parametrize("how", ["withdraw", "leave", "cancel"])
def test_who_waits_for_data_that_does_not_come_is_told(how: str) -> None:
    with TestEnv({"a": 1}, clients="cd") as env:
        announce(env, "x")
        env.event(WantKeys(["x"]), "d")
        env.submit(a_task("y", "x"), client="d")
        assert env.states() == {"x": "waiting", "y": "waiting"}
        if how == "withdraw":
            env.release("x")
            withdraw(env, "x")
        elif how == "leave":
            env.event(ClientLeft("c", "gone"))
            env.instructions.clear()
        else:
            env.cancel("x", force=True)
        cancelled = [key for m in env.told("d") if type(m) is KeysCancelled for key in m.keys]
        assert sorted(cancelled) == ["x", "y"]
        assert not env.state.tasks and not env.state.announced


def test_what_has_a_recipe_is_computed_when_the_data_does_not_come() -> None:
    with TestEnv({"a": 1}, clients="cd") as env:
        env.submit(a_task("x"), client="d")
        (first,) = env.computes("a")
        announce(env, "x")
        assert env.states() == {"x": "waiting"}  # not computed meanwhile
        assert kinds(env.sent("a")) == [FreeKeys]
        env.release("x")
        (again,) = env.computes("a")
        assert type(again) is ComputeTask and again.run_id != first.run_id
        env.finish("x")
        assert kinds(env.told("d")) == [KeyInMemory]


def test_data_that_comes_after_it_was_cancelled_is_forgotten() -> None:
    with TestEnv({"a": 1}) as env:
        announce(env, "x")
        env.cancel("x")
        assert not env.state.tasks
        place(env, "x", "a")
        assert kinds(env.sent("a")) == [FreeKeys]
        assert not env.state.tasks
        withdraw(env, "x")


def test_the_only_copy_is_lost_while_another_one_comes() -> None:
    with TestEnv({"a": 1, "b": 1}, clients="cd") as env:
        env.scatter("x", "a", client="d")
        announce(env, "x")
        env.told("d")
        env.event(MissingData("x", "tcp://a:1"), "tcp://b:1")  # it may be there by now
        assert env.holders("x") == ["a"]
        env.lose("a")
        env.instructions.clear()
        assert env.states() == {"x": "waiting"}
        place(env, "x", "b")
        assert env.holders("x") == ["b"]
        env.told("c"), env.told("d")
        env.sent("b")


def test_the_workers_are_gone_before_the_client_tells() -> None:
    with TestEnv({"a": 1, "b": 1}, clients="cd") as env:
        announce(env, "x")
        announce(env, "x", client="d")
        env.lose("a")
        env.instructions.clear()
        place(env, "x", "a")
        assert env.states() == {"x": "waiting"}  # the other one goes on
        place(env, "x", "a", client="d")
        assert not env.state.tasks
        assert kinds(env.told("c") + env.told("d")) == [KeysCancelled, KeysCancelled]
        env.sent("b")


def test_fire_and_forget_of_what_is_announced() -> None:
    with TestEnv({"a": 1}) as env:
        announce(env, "x")
        env.event(FireAndForget(["x"]), "c")
        place(env, "x", "a")
        env.told()
        env.release("x")
        assert kinds(env.sent("a")) == [FreeKeys] and not env.state.tasks


def test_data_of_a_client_that_has_vanished() -> None:
    with TestEnv({"a": 1, "b": 1}, clients="cd") as env:
        announce(env, "x")
        env.event(ClientLeft("c", "gone"))
        env.instructions.clear()
        env.event(DataReceived(["x"]), "tcp://a:1")
        assert kinds(env.sent("a")) == [FreeKeys]
        env.scatter("x", "b", client="d")
        env.event(DataReceived(["x"]), "tcp://b:1")
        env.event(DataReceived(["x"]), "tcp://a:1")  # an older report, or other data: it is not taken for a copy
        assert env.holders("x") == ["b"] and not env.sent("b")
        assert kinds(env.sent("a")) == [FreeKeys]
        env.told("d")


def test_restart() -> None:
    with TestEnv({"a": 1}) as env:
        announce(env, "x")
        env.event(Restart())
        assert not env.state.tasks and not env.state.announced
        env.to_workers.clear(), env.to_clients.clear(), env.instructions.clear()
