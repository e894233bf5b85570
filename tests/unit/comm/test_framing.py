from __future__ import annotations

import random

import pytest

from distributed.base.errors import FrameError
from distributed.comm import framing
from distributed.comm.framing import FrameReader, frame_buffers


def pack(segments, first=0):
    buffers, total = frame_buffers(segments, first)
    data = b"".join(buffers)
    assert len(data) == total
    return data


def receive(data, rng, reader=None, biggest=400_000):
    """As a socket would: pieces of any size, into the scratch buffer or the target."""
    reader = reader or FrameReader()
    scratch = memoryview(bytearray(256 * 1024))
    position = 0
    got = []
    while position < len(data):
        n = min(rng.randrange(1, biggest), len(data) - position)
        target = reader.target()
        if target is None:
            n = min(n, len(scratch))
            scratch[:n] = data[position : position + n]
            frames = reader.feed(scratch[:n])
        else:
            n = min(n, len(target))
            target[:n] = data[position : position + n]
            frames = reader.filled(n)
        position += n
        got += [([bytes(s) for s in f.segments], f.first) for f in frames]
    assert reader.idle
    return got


def test_round_trip_in_any_pieces():
    rng = random.Random(1)
    sizes = [1, 7, 1000, 40_000, 70_000, 300_000, 5_000_000]
    for round_ in range(40):
        frames = []
        for i in range(rng.randrange(1, 8)):
            count = rng.choice([1, 1, 2, 5, 70])
            limit = len(sizes) if count < 5 else 5
            frames.append(([rng.randbytes(rng.choice(sizes[:limit])) for _ in range(count)], i))
            if count > 2:
                frames[-1][0][rng.randrange(1, count)] = b""
        data = b"".join(pack(s, n) for s, n in frames)
        assert receive(data, rng, biggest=rng.choice([2, 50, 5000, 400_000]) if len(data) < 1e6 else 400_000) == frames


def test_large_segments_are_received_in_place_and_writable():
    big = bytes(10_000_000)
    data = memoryview(pack([b"head", big]))
    reader = FrameReader()
    reader.feed(data[:100])
    target = reader.target()
    assert target is not None and len(target) > 9_999_000
    target[:] = data[100:]
    (frame,) = reader.filled(len(target))
    assert not memoryview(frame.segments[1]).readonly
    assert bytes(frame.segments[1]) == big


def test_big_buffers_are_not_joined():
    big = bytearray(1_000_000)
    buffers, _ = frame_buffers([b"head", big], 0)
    assert any(b.obj is big for b in buffers)
    assert len(frame_buffers([b"head", bytes(100)], 0)[0]) == 1


def test_other_buffers():
    np = pytest.importorskip("numpy")
    array = np.arange(6, dtype="i4").reshape(2, 3)
    assert receive(pack([b"a", array]), random.Random(0))[0][0][1] == array.tobytes()


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 20,
        b"GET / HTTP/1.1\r\n\r\n",
        framing._HEAD.pack(framing.MAGIC, 0, 0, 0),
        framing._HEAD.pack(framing.MAGIC, 0, 1, 0) + (1 << 33).to_bytes(8, "big"),
        framing._HEAD.pack(framing.MAGIC, 0, 2, 0) + (1).to_bytes(8, "big") + (1 << 40).to_bytes(8, "big"),
        framing._HEAD.pack(framing.MAGIC, 0, 2, 0) + (1).to_bytes(8, "big") + (1 << 63).to_bytes(8, "big"),
        framing._HEAD.pack(framing.MAGIC, 0, 1, 0) + (0).to_bytes(8, "big"),
    ],
)
@pytest.mark.parametrize("piece", [1, 1000])
def test_bad_heads_are_refused_at_once(data, piece):
    reader = FrameReader()
    view = memoryview(data)
    with pytest.raises(FrameError):
        for i in range(0, len(data), piece):
            reader.feed(view[i : i + piece])
        reader.feed(memoryview(b"x"))


def test_noise_raises_frame_errors_only():
    rng = random.Random(3)
    for _ in range(2000):
        reader = FrameReader(max_frame_bytes=1 << 20)
        data = bytearray(rng.choice([b"", pack([b"abc"]), pack([b"abc", b"x" * 500])]) + rng.randbytes(rng.randrange(80)))
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            reader.feed(memoryview(bytes(data)))
        except FrameError:
            pass
