"""Locks, events, queues and variables, and the names that clients keep, under delays, hangs and deaths."""

from __future__ import annotations

import pytest

from distributed.coordination.kept import KeptNames
from distributed.coordination.queues import QueueHome
from distributed.simulation.coordination_episode import CoordinationEpisode

SEEDS_A_TEST = 50


@pytest.mark.parametrize("first", range(0, 200, SEEDS_A_TEST))
def test_nothing_is_lost_doubled_or_left(first):
    n_here = n_asked = 0
    for seed in range(first, first + SEEDS_A_TEST):
        counts = CoordinationEpisode(seed).run().world.sim.counts
        n_here += counts["done at the client"]
        n_asked += counts["asked"]
    assert min(n_here, n_asked) > 1000, "one of the two ways was hardly gone"


def find(n_seeds):
    for seed in range(n_seeds):
        CoordinationEpisode(seed).run()


@pytest.mark.parametrize(
    ("op", "rule"), [("semaphore_acquire", "two hold the lock"), ("variable_get", "had been overwritten")]
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
