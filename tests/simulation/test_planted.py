"""Bugs that are planted into the cores are found; a seed that finds each is named here.

Which seed finds one changes with the generator: ``python -m distributed.simulation --planted NAME`` searches from 0.
"""

from __future__ import annotations

import pytest

from distributed.simulation import planted
from distributed.simulation.episode import Episode, Failure
from distributed.simulation.faults import make_script

FOUND_BY = {
    "dropped-acknowledgement": 2,
    "skipped-release": 1,
    "no-run-id-check": 76,
    "double-decrement": 3,
    "lost-steal-reply": 4,
    "replica-never-freed": 2,
    "resources-not-returned": 2,
    "forgotten-requeue": 0,
    "missing-cancel": 2,
    "void-never": 12,
    "behind-takes-no-slot": 3,
    "wrong-holder-kept": 16,
    "blame-off-by-one": 12,
    "retry-for-a-death": 1,
    "long-running-charged": 5,
    "stale-holders": 17,
    "last-copy-unnoticed": 7,
    "pin-leaks": 2,
    "stale-resources-leak": 2,
    "announcement-overlooked": 5,
    "session-forgets": 8,
    "workers-session-forgets": 11,
    "away-for-ever": 10,
    "follower-not-recalled": 2,
    "exit-never-awaited-in-vain": 0,
    "missing-not-asked-again": 4,
    "lost-input-miscounted": 178,
    "shuffle-holder-unnoticed": 24,
    "shuffle-end-untold": 11,
    "steal-forgets-task": 3,
}


@pytest.mark.parametrize("name", planted.BUGS)
def test_a_planted_bug_is_found(name):
    script = make_script(FOUND_BY[name])
    with planted.plant(name), pytest.raises(Failure):
        Episode(script).run()
    Episode(script).run()  # and nothing else is found there


def test_what_was_planted_is_gone_afterwards():
    before = {name: list(planted._places(bug[1])) for name, bug in planted.BUGS.items()}
    for name in planted.BUGS:
        with planted.plant(name):
            assert not list(planted._places(planted.BUGS[name][1]))
    assert before == {name: list(planted._places(bug[1])) for name, bug in planted.BUGS.items()}
    assert all(before.values())


def test_an_unknown_bug_is_refused():
    with pytest.raises(KeyError):
        with planted.plant("no-such-bug"):
            pass
