"""The part of the fault proxy that has no socket: the same seed does the same to the same bytes, however they come."""

from __future__ import annotations

import random

import pytest

from distributed.testing.fault_stream import Cut, Faults, Script, Stream

DATA = bytes(range(256)) * 200


def through(faults: Faults, seed: str = "1", cuts: int = 0, data: bytes = DATA) -> tuple[bytes, Stream, str]:
    """What comes out, the stream, and how it ended."""
    stream = Stream(faults, seed)
    out = b""
    rest, chance = data, random.Random(cuts)
    try:
        while rest:
            n = chance.randrange(1, 3000) if cuts else len(rest)
            piece, rest = rest[:n], rest[n:]
            for part in stream.put(piece):
                if part is None:
                    return out, stream, "stalled"
                out += part
    except Cut as cut:
        return out, stream, "reset" if cut.reset else "ended"
    return out, stream, "open"


EVERYTHING = Faults(flip_one_in=500, flip_from=100, flip_at=(7, 4000), replay=((10, 50), (30, 90)), reset_at=40_000)


@pytest.mark.parametrize("cuts", [1, 2, 3])
def test_how_the_bytes_are_cut_makes_no_difference(cuts: int) -> None:
    whole, stream, end = through(EVERYTHING)
    parts, other, other_end = through(EVERYTHING, cuts=cuts)
    assert parts == whole and end == other_end == "reset"
    assert (stream.n_flipped, stream.n_replayed) == (other.n_flipped, other.n_replayed)
    assert stream.n_replayed == 100 and stream.n_flipped > 20


def test_another_seed_flips_others() -> None:
    assert through(EVERYTHING, "1")[0] != through(EVERYTHING, "2")[0]


def test_no_faults_no_change() -> None:
    assert through(Faults())[0] == DATA


def test_flips() -> None:
    out, stream, _ = through(Faults(flip_at=(5, 300)))
    assert [i for i, (a, b) in enumerate(zip(out, DATA, strict=True)) if a != b] == [5, 300] and stream.n_flipped == 2
    out, stream, _ = through(Faults(flip_one_in=1000, flip_from=20_000))
    changed = [i for i, (a, b) in enumerate(zip(out, DATA, strict=True)) if a != b]
    assert len(changed) == stream.n_flipped and 10 < len(changed) < 70 and changed[0] >= 20_000
    assert all((out[i] ^ DATA[i]).bit_count() == 1 for i in changed)


def test_replay_cut_and_stall() -> None:
    assert through(Faults(replay=((3, 6),)))[0] == DATA[:6] + DATA[3:6] + DATA[6:]
    assert through(Faults(truncate_at=1000))[::2] == (DATA[:1000], "ended")
    assert through(Faults(reset_at=0))[::2] == (b"", "reset")
    assert through(Faults(stall_at=77))[::2] == (DATA[:77], "stalled")
    assert Stream(Faults(), "1").last(5) == b""
    _, stream, _ = through(Faults())
    assert stream.last(5) == DATA[-5:] and stream.n_replayed == 5


def test_a_script_for_some_connections() -> None:
    script = Script(up=Faults(delay_s=1), connections=(1, 3))
    assert script.for_connection(1) is script and script.for_connection(0) == Script()
    assert Script(up=Faults(delay_s=1)).for_connection(9).up.delay_s == 1
