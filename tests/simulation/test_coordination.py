"""All primitives, and the names that clients keep, under delays, hangs and deaths of clients and workers."""

from __future__ import annotations

from collections import Counter

import pytest

from distributed.coordination.held_keys import HeldKeys
from distributed.coordination.homes import Homes
from distributed.coordination.kept import KeptNames
from distributed.coordination.leases import Leases
from distributed.coordination.pubsub import PubSub
from distributed.coordination.queues import QueueHome
from distributed.coordination.waiters import Waiters
from distributed.simulation import coordination
from distributed.simulation.coordination_episode import CoordinationEpisode

SEEDS_A_TEST = 50
KEPT = ("semaphore", "multi_lock", "event", "queue", "variable")


@pytest.mark.parametrize("first", range(0, 200, SEEDS_A_TEST))
def test_nothing_is_lost_doubled_or_left(first):
    n_asked = n_lost = 0
    n_here: Counter[str] = Counter()
    for seed in range(first, first + SEEDS_A_TEST):
        episode = CoordinationEpisode(seed).run()
        counts = episode.world.sim.counts
        n_here.update({kind: counts[f"{kind} done at the client"] for kind in KEPT})
        n_asked += counts["asked"]
        n_lost += len({program.user for program in episode.programs if program.user.is_worker and program.left})
    assert min(n_here.total(), n_asked) > 1000, "one of the two ways was hardly gone"
    assert min(n_here.values()) > 50, f"hardly kept: {n_here}"
    assert n_lost > 5, "hardly any worker was lost with a task on it"


def find(n_seeds):
    for seed in range(n_seeds):
        CoordinationEpisode(seed).run()


@pytest.mark.parametrize(
    ("op", "rule"), [("semaphore_value", "leases are taken, not"), ("variable_get", "had been overwritten")]
)
def test_a_request_that_does_not_wait_for_the_keeper_is_found(monkeypatch, op, rule):
    right = KeptNames.stands_by

    def wrong(self, place, asked, waiter, now, kwargs):
        return asked != op and right(self, place, asked, waiter, now, kwargs)

    monkeypatch.setattr(KeptNames, "stands_by", wrong)
    with pytest.raises(AssertionError, match=rule):
        find(120)


@pytest.mark.parametrize(
    ("names", "rule"),
    [(("a", "b"), "2 hold '[ab]'"), (("pair",), "3 hold 'pair'"), (None, "2 hold '[mno]'")],
)
def test_a_keeper_that_gives_back_what_is_held_is_found(monkeypatch, names, rule):
    right = Homes.give_back_locked

    def wrong(self, home):
        if home.held and (home.kind == "multi_lock" if names is None else home.name in names):
            home.free = [*home.free, *home.held]
        right(self, home)

    monkeypatch.setattr(Homes, "give_back_locked", wrong)
    with pytest.raises(AssertionError, match=f"{rule}|the lease was over"):
        find(60)


@pytest.mark.parametrize("kind", ["semaphore", "multi_lock"])
def test_a_keeper_that_keeps_what_is_free_is_found(monkeypatch, kind):
    right = KeptNames.returned

    def wrong(self, waiter, now, lease, free=(), unwilling=False):
        found = self._leases.find(waiter.client, lease)
        mine = found is not None and isinstance(found.thing, tuple) and found.thing[0] == kind
        right(self, waiter, now, lease, () if mine else free, unwilling)

    monkeypatch.setattr(KeptNames, "returned", wrong)
    with pytest.raises(AssertionError, match=r"hangs|somebody waits or holds|leases are taken, not|lost a lease"):
        find(30)


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
