"""Leases that a client keeps: what the tables say of them, who gets them when they are recalled."""

from __future__ import annotations

from typing import Any

import pytest

from distributed.coordination.kept import IN_A_ROW, PATIENCE_S
from tests.unit.coordination.world import World

NAMES = ["m", "n"]


class KeepersWorld(World):
    """Names are kept, by clients that do nothing of their own accord."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, tuple[Any, ...]] = {}
        self.recalled: list[int] = []

    def settle(self) -> None:
        news, self.tables.kept.news = self.tables.kept.news, []
        for _client, (what, *rest) in news:
            if what == "keep":
                _kind, _name, lease, _number, state = rest
                self.kept[lease] = state
            else:
                self.recalled += rest
        super().settle()

    def keep(self, client: str, op: str, **kwargs: Any) -> tuple[int, list[int], list[int]]:
        """Until the client keeps the names; returns the lease of that, and the leases held and free."""
        kind = op.removesuffix("_acquire")
        n = len(self.kept)
        while len(self.kept) == n:
            lease = self.get(client, op, **kwargs)
            if len(self.kept) == n:
                self.get(client, f"{kind}_release", name=kwargs["name"], lease=lease)
        kept, (_, _, held, free) = list(self.kept.items())[-1]
        assert lease in held
        return kept, held, free


def semaphore(world: KeepersWorld, client: str = "keeper") -> tuple[int, list[int], list[int]]:
    return world.keep(client, "semaphore_acquire", name="s", max_leases=3)


def test_all_leases_of_a_semaphore_are_lent():
    world = KeepersWorld()
    _, held, free = semaphore(world)
    assert (len(held), len(free)) == (1, 2)
    assert world.tables.semaphores.metrics()["s"]["active_leases"] == 1


@pytest.mark.parametrize("timeout", [None, 0])
def test_who_asks_gets_what_was_free_at_the_keeper(timeout):
    world = KeepersWorld()
    kept, held, free = semaphore(world)
    request = world.ask("other", "semaphore_acquire", timeout, name="s", max_leases=3)
    value = world.ask("other", "semaphore_value", name="s")
    assert world.recalled == [kept] and not world.answers
    world.get("keeper", "semaphore_told", name="s", n_acquired=1, n_released=0, n_idle=1)
    world.get("keeper", "kept_returned", lease=kept, free=free[1:])
    assert world.answers.pop(request) not in (None, *held, *free)
    assert world.answers.pop(value) == 3
    metrics = world.tables.semaphores.metrics()["s"]
    assert metrics["active_leases"] == 3
    assert metrics["acquire_total"] - metrics["release_total"] == 3


def test_a_keeper_that_is_silent_counts_as_holder_of_all():
    world = KeepersWorld()
    kept, held, free = semaphore(world)
    now, later = (world.ask("other", "semaphore_acquire", timeout, name="s", max_leases=3) for timeout in (0, None))
    world.pass_time(PATIENCE_S)
    assert world.answers.pop(now) is None and not world.answers
    world.get("keeper", "kept_returned", lease=kept, free=free)  # late
    assert world.answers.pop(later) is not None
    assert world.get("keeper", "semaphore_release", name="s", lease=held[0]) is True


@pytest.mark.parametrize("lost", [True, False])
def test_all_is_free_when_the_keeper_is_gone(lost):
    world = KeepersWorld()
    semaphore(world)
    world.keep("keeper", "multi_lock_acquire", name="", names=NAMES, n=2)
    requests = [world.ask("other", "semaphore_acquire", None, name="s", max_leases=3) for _ in range(3)]
    requests.append(world.ask("other", "multi_lock_acquire", None, name="", names=["n", "o"], n=2))
    if lost:
        world.leave("keeper")
    else:
        world.pass_time(45)
    assert None not in [world.answers.pop(request) for request in requests]
    world.leave("keeper")
    world.leave("other")
    world.assert_empty()


def test_locks_of_several_stand_by_in_the_order_in_which_they_came():
    world = KeepersWorld()
    kept, held, _ = world.keep("keeper", "multi_lock_acquire", name="", names=NAMES, n=2)
    first = world.ask("second", "multi_lock_acquire", None, name="", names=["n", "o"], n=2)
    behind = world.ask("third", "multi_lock_acquire", None, name="", names=["o"], n=1)
    assert world.recalled == [kept] and not world.answers, "what is behind who stands by was given away"
    world.get("keeper", "kept_returned", lease=kept, free=held)
    assert world.answers.pop(first) is not None and behind not in world.answers
    world.leave("second")
    assert world.answers.pop(behind) is not None


def test_two_keepers_of_one_request():
    world = KeepersWorld()
    one, _, _ = world.keep("one", "multi_lock_acquire", name="", names=["m"], n=1)
    two, held, _ = world.keep("two", "multi_lock_acquire", name="", names=["n"], n=1)
    both = world.ask("other", "multi_lock_acquire", 0, name="", names=NAMES, n=2)
    either = world.ask("other", "multi_lock_acquire", 0, name="", names=NAMES, n=1)
    assert world.recalled == [one, two]
    world.get("one", "kept_returned", lease=one, free=[])
    assert not world.answers, "the other keeper was not waited for"
    world.get("two", "kept_returned", lease=two, free=held)
    assert world.answers.pop(both) is None
    assert world.answers.pop(either) is not None


def test_some_of_many_and_too_many_leases_are_kept_by_nobody():
    world = KeepersWorld()
    for _ in range(2 * IN_A_ROW):
        lease = world.get("one", "multi_lock_acquire", name="", names=NAMES, n=1)
        world.get("one", "multi_lock_release", name="", lease=lease)
        lease = world.get("one", "semaphore_acquire", name="s", max_leases=101)
        world.get("one", "semaphore_release", name="s", lease=lease)
    assert not world.kept
