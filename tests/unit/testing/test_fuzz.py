"""A small size of the fuzzing of what reads bytes of peers (``make fuzz`` has the large one)."""

from __future__ import annotations

import random

import pytest

from distributed.protocol.codec import LINKS
from distributed.protocol.frames import FrameReader
from distributed.testing import fuzz


def test_what_is_not_changed_is_read() -> None:
    for link, checked, stream in fuzz.recorded():
        fuzz.read_frames(link, checked)(stream, random.Random(0))
    assert {link for link, _, _ in fuzz.recorded()} == set(LINKS)


def test_c4_21_some_thousand_changes() -> None:
    outcomes = fuzz.run(20_000, seed=1)
    assert outcomes["FrameError"] > 1000 and outcomes["taken, or waited for more"] > 1000


def test_a_finding_names_what_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def feed(self: FrameReader, data: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(FrameReader, "feed", feed)
    monkeypatch.setattr(FrameReader, "target", lambda self: None)
    with pytest.raises(fuzz.Finding, match=r"seed 3, number \d+: RecursionError: too deep"):
        fuzz.run(100, seed=3)
