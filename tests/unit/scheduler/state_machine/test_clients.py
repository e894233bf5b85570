"""Clients come, are lost, come back, and leave."""

from __future__ import annotations

import pytest

from distributed.messages.client_to_scheduler import ClientClosing
from distributed.messages.scheduler_to_client import KeyInMemory
from distributed.scheduler.state_machine.events import ClientJoined, ClientLeft, ClientLost
from distributed.scheduler.state_machine.instructions import ClientRemoved
from tests.unit.scheduler.state_machine.environment import TestEnv, a_task


def env_with_two(**settings) -> TestEnv:
    """``c`` wants x and y, ``d`` wants y and z; all are in memory."""
    env = TestEnv({"a": 1}, clients="cd", worker_ttl_s=None, **settings)
    env.submit(a_task("x"), a_task("y"))
    env.submit(a_task("y"), a_task("z"), client="d")
    for key in "xyz":
        env.finish(key, "a")
    env.ignore_all()
    return env


def test_a_lost_client_keeps_its_keys_for_the_grace() -> None:
    with env_with_two() as env:
        env.event(ClientLost("c", "connection lost: reset"))
        env.wait(29.9)
        assert set(env.states()) == {"x", "y", "z"} and "c" in env.state.clients
        env.wait(0.2)
        assert env.freed("a") == ["x"]
        assert set(env.states()) == {"y", "z"} and list(env.state.clients) == ["fire-and-forget", "d"]
        [removed] = env.instructed()
        assert removed.client == "c" and not removed.expected
        assert "connection lost: reset" in removed.cause and "30 s" in removed.cause


def test_a_client_that_is_back_in_time_keeps_its_keys_for_good() -> None:
    with env_with_two() as env:
        env.event(ClientLost("c"))
        env.wait(20)
        env.event(ClientJoined("c"))
        env.wait(1000)
        assert set(env.states()) == {"x", "y", "z"} and not env.state.absent


def test_a_second_loss_has_a_grace_of_its_own() -> None:
    with env_with_two(client_grace_s=10) as env:
        env.event(ClientLost("c"))
        env.wait(9)
        env.event(ClientJoined("c"))
        env.event(ClientLost("c"))
        env.event(ClientLost("c", "said twice"))
        env.wait(9)
        assert "x" in env.state.tasks
        env.wait(2)
        assert env.freed("a") == ["x"] and len(env.instructed()) == 1


def test_work_of_a_lost_client_goes_on_and_is_reported() -> None:
    with TestEnv({"a": 1}) as env:
        env.submit(a_task("x"))
        env.event(ClientLost("c"))
        assert env.computed_keys("a") == ["x"]
        env.finish("x")
        assert [type(m) for m in env.told()] == [KeyInMemory]


def test_an_orderly_end_releases_at_once() -> None:
    with env_with_two() as env:
        env.event(ClientClosing(), "c")
        assert env.freed("a") == ["x"]
        assert env.instructed() == [ClientRemoved("c", "it has closed", True)]
        env.event(ClientLost("c"))  # the connection ends afterwards
        assert not env.state.absent


def test_an_orderly_end_within_the_grace() -> None:
    with env_with_two() as env:
        env.event(ClientLost("c"))
        env.event(ClientLeft("c", "too far behind"))
        assert env.freed("a") == ["x"] and env.instructed() == [ClientRemoved("c", "too far behind", False)]
        assert env.state.next_deadline() != 30.0 and not env.state.absent


@pytest.mark.parametrize("grace", [0, -1])
def test_no_grace(grace) -> None:
    with env_with_two(client_grace_s=grace) as env:
        env.event(ClientLost("c"))
        assert env.freed("a") == ["x"] and len(env.instructed()) == 1


def test_grace_without_end() -> None:
    with env_with_two(client_grace_s=None) as env:
        env.event(ClientLost("c"))
        env.wait(1e6)
        assert "x" in env.state.tasks


def test_published_data_has_no_connection_to_lose() -> None:
    with TestEnv({"a": 1}) as env:
        env.event(ClientJoined("published-p", mute=True))
        env.event(ClientLost("published-p"))
        env.event(ClientLost("nobody"))
        env.event(ClientLeft("published-p"))
        assert not env.state.absent and "published-p" not in env.state.clients


def test_the_scheduler_itself_never_leaves() -> None:
    with TestEnv() as env:
        env.event(ClientLeft("fire-and-forget"))
        env.event(ClientLost("fire-and-forget"))
        assert "fire-and-forget" in env.state.clients
