"""The silent numbering under random cuts: each message is taken in exactly once, in order; what is kept is bounded."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed.rpc.counted import CountedEnd


def test_numbers_and_acknowledgements() -> None:
    a, b = CountedEnd(tell_every=3), CountedEnd()
    a.push(["1", "2"])
    assert b.take_in(2) is False and (a.sent, b.applied) == (2, 2)
    assert b.tell().number == 2 and a.acknowledge(2) and a.acknowledged == 2
    assert not a.acknowledge(3), "of what was never sent"
    assert a.acknowledge(1) and a.acknowledged == 2, "an old word changes nothing"
    b.push(["x", "y", "z"])
    assert a.take_in(3) is True, "it is time to tell"
    assert a.tell(ask=True).ask and a.take_in(1) is False


def test_going_on_in_the_middle_of_a_batch() -> None:
    a, b = CountedEnd(), CountedEnd()
    a.resume(0)
    a.push(["1", "2", "3"])
    a.push(["4"])
    b.take_in(2)
    assert a.can_resume(2) and a.resume(b.applied) == [["3"], ["4"]]
    assert (a.n_resent, a.n_resumed) == (2, 1)
    assert not a.can_resume(1), "the peer had said that it is further"
    assert not a.can_resume(5)
    with pytest.raises(ValueError, match="3 to 4 are here"):
        a.resume(1)


def test_what_is_kept_is_bounded() -> None:
    """The oldest is given up; until the peer has it, the session cannot go on."""
    a = CountedEnd(limit_bytes=800)
    asked = 0
    for i in range(20):
        a.push([str(i)])
        a.n_bytes += 100
        asked += a.wants_ack()
    assert a.unacknowledged_bytes <= 900 and a.dropped >= 10 and asked >= 8
    assert not a.can_resume(a.dropped - 1) and a.can_resume(a.dropped)
    assert a.acknowledge(20) and a.unacknowledged_bytes == 0 and a.can_resume(20)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 30))
def test_random_cuts(seed: int) -> None:
    """Batches are lost from some point on, in each direction by itself; both say then how far they are."""
    chance = Random(seed)
    ends = CountedEnd(tell_every=4), CountedEnd(tell_every=7)
    flying: tuple[deque[list[int]], deque[list[int]]] = deque(), deque()
    got: tuple[list[int], list[int]] = [], []
    said = [0, 0]

    def deliver(at: int, n: int) -> None:
        for _ in range(min(n, len(flying[at]))):
            batch = flying[at].popleft()
            got[1 - at].extend(batch)
            ends[1 - at].take_in(len(batch))

    for _ in range(chance.randrange(40)):
        at = chance.randrange(2)
        batch = [said[at] + i for i in range(chance.choice([1, 1, 2, 5]))]
        said[at] += len(batch)
        ends[at].push(batch)
        flying[at].append(batch)
        deliver(chance.randrange(2), chance.choice([0, 1, 3]))
        if chance.random() < 0.3:
            ends[at].acknowledge(ends[1 - at].applied)
        if chance.random() < 0.2:  # cut
            for way in flying:
                way.clear()
            for one in (0, 1):
                flying[one].extend(ends[one].resume(ends[1 - one].applied))
    for at in (0, 1):
        deliver(at, 1000)
        assert got[1 - at] == list(range(said[at]))
