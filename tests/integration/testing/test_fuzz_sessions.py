"""A small size of ``python -m distributed.testing.fuzz_sessions``."""

from __future__ import annotations

import asyncio

import pytest

from distributed.testing import fuzz_sessions

pytestmark = pytest.mark.usefixtures("private_places")


def test_c4_21_a_hundred_conversations() -> None:
    """With members that know the secret and talk nonsense: the honest client is served, the tables hold together."""
    outcomes = asyncio.run(fuzz_sessions.run(120, seed=4))
    assert sum(outcomes.values()) == 120
    assert {name.partition(":")[0] for name in outcomes} >= {
        f"{role} to scheduler" for role in fuzz_sessions.TO_SCHEDULER
    }
    assert outcomes["worker to scheduler: left"] and outcomes["client to scheduler: left"]


def test_a_finding_names_what_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object) -> None:
        raise AssertionError("the tables contradict themselves")

    monkeypatch.setattr(fuzz_sessions.Scheduler, "validate_state", broken)
    with pytest.raises(AssertionError, match="contradict"):
        asyncio.run(fuzz_sessions.run(1, seed=4))
