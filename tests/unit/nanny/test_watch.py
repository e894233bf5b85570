"""The nanny's word for a silent process: what it has seen, and for how long. Looks, clock and process are ours."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from distributed.messages.nanny import WorkerVouched
from distributed.nanny import watch
from distributed.nanny.watch import LOOKS, SHARE, Watch

SUSPECT_S = 5.0
INTERVAL_S = SHARE * SUSPECT_S / LOOKS


class Watched:
    """A process that is looked at."""

    pid = 7

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.page = self
        self.beats = 1
        self.state = "sleeping"
        self.now = 100.0
        self.told: list[WorkerVouched] = []
        monkeypatch.setattr(watch, "process_state", lambda pid: self.state)
        monkeypatch.setattr(watch.time, "monotonic", lambda: self.now)
        self.watch = Watch(self.told.append, SUSPECT_S)

    def is_alive(self) -> bool:
        return True

    def run_ids(self) -> tuple[int, ...]:
        return (3,)

    def look(self, times: int = 1, after_s: float = INTERVAL_S) -> None:
        """Let time pass, look, and so on."""
        for _ in range(times):
            self.now += after_s
            self.watch._timer.cancel()  # type: ignore[union-attr]
            self.watch._look()


def watched(monkeypatch: pytest.MonkeyPatch, play: Any) -> Watched:
    async def run() -> Watched:
        seen = Watched(monkeypatch)
        seen.watch.start(seen, "tcp://a:1")  # type: ignore[arg-type]
        play(seen)
        seen.watch.stop()
        return seen

    return asyncio.run(run())


def test_a_loop_that_moves_is_not_spoken_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def play(seen: Watched) -> None:
        for _ in range(10):
            seen.beats += 1
            seen.look(2)

    assert not watched(monkeypatch, play).told


def test_a_loop_that_stands_still_is_held_for_as_long_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    told = watched(monkeypatch, lambda seen: seen.look(4)).told
    assert [(word.held_s, word.process_state, word.executing) for word in told] == [
        (pytest.approx(3.0), "sleeping", (3,)),
        (pytest.approx(4.0), "sleeping", (3,)),
    ]


def test_a_process_that_goes_on_has_been_held_only_since(monkeypatch: pytest.MonkeyPatch) -> None:
    def play(seen: Watched) -> None:
        seen.state = "stopped"
        seen.look(5)
        seen.state = "running"
        seen.look(2)

    told = watched(monkeypatch, play).told
    assert [(word.process_state, word.held_s) for word in told] == [
        ("stopped", 0.0),
        ("stopped", 0.0),
        ("stopped", 0.0),
        ("running", pytest.approx(1.0)),
        ("running", pytest.approx(2.0)),
    ]


def test_a_nanny_that_stood_still_has_seen_nothing_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    def play(seen: Watched) -> None:
        seen.look()
        seen.look(after_s=10.0)
        seen.look()

    assert [word.held_s for word in watched(monkeypatch, play).told] == [0.0, pytest.approx(1.0)]
