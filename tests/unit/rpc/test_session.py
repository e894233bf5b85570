"""The session's table under random cuts: each message is taken in exactly once, in order."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed.messages.control import BatchHeader
from distributed.rpc.session import SessionEnd


def send(end: SessionEnd, *messages: str, nbytes: int = 10) -> list:
    batch = list(messages)
    header = end.push(batch)
    end.weigh(nbytes * len(batch))
    return [header, *batch]


def test_numbers_and_acknowledgements() -> None:
    a, b = SessionEnd(), SessionEnd()
    assert b.receive(send(a, "1", "2")) == ["1", "2"]
    assert (a.sent, b.applied, a.acknowledged, a.unacknowledged_bytes) == (2, 2, 0, 20)
    assert a.receive(send(b, "x")) == ["x"]
    assert (a.acknowledged, a.unacknowledged_bytes) == (2, 0)
    assert b.receive([a.header()]) == []
    assert b.unacknowledged_bytes == 0 and not a.fault and not b.fault


def test_batches_may_arrive_in_any_portions() -> None:
    a, b = SessionEnd(), SessionEnd()
    stream = send(a, "1", "2", "3") + send(a, "4") + [a.header()] + send(a, "5", "6")
    assert b.receive([]) + b.receive(stream[:2]) + b.receive(stream[2:3]) + b.receive(stream[3:]) == list("123456")
    assert b.applied == 6


def test_going_on_in_the_middle_of_a_batch() -> None:
    a, b = SessionEnd(), SessionEnd()
    first, second = send(a, "1", "2", "3"), send(a, "4")
    assert b.receive(first[:3]) == ["1", "2"]
    del second
    b.resume(a.applied)
    again = a.resume(b.applied)
    assert [(header.first, header.count, rest) for header, rest in again] == [(3, 1, ["3"]), (4, 1, ["4"])]
    assert b.receive([part for header, rest in again for part in (header, *rest)]) == ["3", "4"]
    assert (a.n_resent, b.n_duplicates) == (2, 0)


def test_what_comes_twice_is_dropped_and_counted() -> None:
    a, b = SessionEnd(), SessionEnd()
    stream = send(a, "1", "2", "3")
    assert b.receive(list(stream)) == ["1", "2", "3"]
    assert b.receive(stream) == []
    again = [BatchHeader(2, 3), "2", "3", "4"]
    assert b.receive(again) == ["4"]
    assert b.n_duplicates == 5 and b.applied == 4 and not b.fault


@pytest.mark.parametrize(
    ("stream", "word"),
    [
        (["bare"], "without a number"),
        ([BatchHeader(3, 1), "3"], "message 1 should come next, not 3"),
        ([BatchHeader(0, 1), "0"], "should come next"),
        ([BatchHeader(1, -1)], "should come next"),
        ([BatchHeader(1, 0, applied=7)], "7 is acknowledged, but the last one sent is 0"),
    ],
)
def test_nonsense_is_a_fault_of_the_connection_not_of_the_session(stream, word) -> None:
    end = SessionEnd()
    assert end.receive(stream) == [] and word in end.fault
    assert end.receive([BatchHeader(1, 1), "1"]) == []  # nothing more over this connection
    end.resume(0)
    assert end.receive([BatchHeader(1, 1), "1"]) == ["1"] and not end.fault


def test_what_came_before_a_fault_counts() -> None:
    end = SessionEnd()
    assert end.receive([BatchHeader(1, 1), "1", "bare"]) == ["1"]
    assert end.applied == 1 and end.fault


def test_asking_and_the_limit() -> None:
    a, b = SessionEnd(limit_bytes=800), SessionEnd()
    b.receive(send(a, "1", nbytes=100))
    assert not a.wants_ack() and not a.full
    b.receive(send(a, "2", nbytes=100))
    assert a.wants_ack() and not a.wants_ack()
    b.receive([a.header(ask=True)])
    assert b.ack_due
    a.receive([b.header()])
    assert not b.ack_due and a.unacknowledged_bytes == 0
    b.receive(send(a, "3", nbytes=801))
    assert a.full and a.wants_ack()
    a.receive([b.header()])
    assert not a.full


def test_a_peer_of_another_past_cannot_go_on() -> None:
    a, b = SessionEnd(), SessionEnd()
    b.receive(send(a, "1", "2"))
    a.receive([b.header()])
    assert not a.can_resume(1) and not a.can_resume(3) and a.can_resume(2)
    with pytest.raises(ValueError, match="cannot go on after message 1"):
        a.resume(1)


class Wire:
    """Two ends, and between them a connection that carries parts of batches in order until it is cut."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.ends = SessionEnd(limit_bytes=400), SessionEnd(limit_bytes=400)
        self.sent: tuple[list[int], list[int]] = ([], [])
        self.got: tuple[list[int], list[int]] = ([], [])
        self.lines: tuple[deque, deque] = (deque(), deque())
        self.up = True

    def step(self) -> None:
        side = self.rng.randrange(2)
        end = self.ends[side]
        match self.rng.randrange(8):
            case 0 | 1 | 2:
                first = len(self.sent[side])
                batch = list(range(first, first + self.rng.randint(1, 4)))
                self.sent[side].extend(batch)
                stream = send(end, *batch)
                if self.up:
                    self.lines[side].extend(stream * self.rng.choice([1, 1, 1, 2]))  # sometimes a batch comes twice
                    if end.wants_ack():
                        self.lines[side].append(end.header(ask=True))
            case 3 | 4 | 5 if self.lines[side]:
                self.deliver(side)
            case 6 if self.rng.random() < 0.3:
                self.cut()
            case 7:
                self.connect()

    def deliver(self, side: int) -> None:
        line = self.lines[side]
        stream = [line.popleft() for _ in range(self.rng.randint(1, len(line)))]
        peer = self.ends[1 - side]
        self.got[1 - side].extend(peer.receive(stream))
        if peer.fault:
            self.cut()
        elif peer.ack_due:
            self.lines[1 - side].append(peer.header())

    def cut(self) -> None:
        """What is on its way is lost."""
        self.up = False
        for line in self.lines:
            line.clear()

    def connect(self) -> None:
        if self.up:
            return
        self.up = True
        applied = [end.applied for end in self.ends]
        for side, end in enumerate(self.ends):
            for header, messages in end.resume(applied[1 - side]):
                self.lines[side].extend([header, *messages])

    def finish(self) -> None:
        self.connect()
        while any(self.lines):
            for side in (0, 1):
                while self.lines[side]:
                    self.deliver(side)
            self.connect()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(10, 400))
def test_random_cuts(seed: int, n_steps: int) -> None:
    wire = Wire(Random(seed))
    for _ in range(n_steps):
        wire.step()
        for side in (0, 1):
            assert wire.got[1 - side] == wire.sent[side][: len(wire.got[1 - side])]
    wire.finish()
    for side in (0, 1):
        end, peer = wire.ends[side], wire.ends[1 - side]
        assert wire.got[1 - side] == wire.sent[side]
        assert end.sent == peer.applied == len(wire.sent[side])
        end.receive([peer.header()])
        assert end.acknowledged == end.sent and end.unacknowledged_bytes == 0 and not end._kept
