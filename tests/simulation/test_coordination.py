"""All primitives, and the names that clients keep, under delays, hangs and deaths of clients and workers."""

from __future__ import annotations

import pytest

from distributed.coordination.held_keys import HeldKeys
from distributed.coordination.kept import KeptNames
from distributed.coordination.leases import Leases
from distributed.coordination.pubsub import PubSub
from distributed.coordination.queues import QueueHome
from distributed.coordination.waiters import Waiters
from distributed.simulation import coordination
from distributed.simulation.coordination_episode import CoordinationEpisode

SEEDS_A_TEST = 50


@pytest.mark.parametrize("first", range(0, 200, SEEDS_A_TEST))
def test_nothing_is_lost_doubled_or_left(first):
    n_here = n_asked = n_lost = 0
    for seed in range(first, first + SEEDS_A_TEST):
        episode = CoordinationEpisode(seed).run()
        counts = episode.world.sim.counts
        n_here += counts["done at the client"]
        n_asked += counts["asked"]
        n_lost += len({program.user for program in episode.programs if program.user.is_worker and program.left})
    assert min(n_here, n_asked) > 1000, "one of the two ways was hardly gone"
    assert n_lost > 5, "hardly any worker was lost with a task on it"


def find(n_seeds):
    for seed in range(n_seeds):
        CoordinationEpisode(seed).run()


@pytest.mark.parametrize(
    ("op", "rule"), [("semaphore_acquire", "2 hold '[ab]'"), ("variable_get", "had been overwritten")]
)
def test_a_request_that_does_not_wait_for_the_keeper_is_found(monkeypatch, op, rule):
    right = KeptNames.stands_by

    def wrong(self, place, asked, waiter, now, kwargs):
        return asked != op and right(self, place, asked, waiter, now, kwargs)

    monkeypatch.setattr(KeptNames, "stands_by", wrong)
    with pytest.raises(AssertionError, match=rule):
        find(60)


def test_a_keeper_that_does_not_tell_what_it_took_is_found(monkeypatch):
    right = QueueHome.changes

    def wrong(self):
        self.n_taken = 0
        return right(self)

    monkeypatch.setattr(QueueHome, "changes", wrong)
    with pytest.raises(AssertionError, match="twice"):
        find(30)


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        (Leases, "hangs|somebody waits or holds"),
        (HeldKeys, "on its way to nobody|kept alive for nothing"),
        (PubSub, "a subscription is left"),
        (Waiters, "hangs|somebody waits or holds"),
    ],
)
def test_what_a_lost_worker_leaves_behind_is_found(monkeypatch, table, rule):
    right = table.client_left

    def wrong(self, client, *now):
        if not client.startswith("worker-"):
            right(self, client, *now)

    monkeypatch.setattr(table, "client_left", wrong)
    monkeypatch.setattr(coordination, "LEASE_TIMEOUT_S", 1e6)  # stale leases end, which would make up for it
    with pytest.raises(AssertionError, match=rule):
        find(60)
