"""Frames: cut anywhere they come back whole; nonsense is refused before memory is taken."""

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed.base.errors import CommClosedError, FrameError
from distributed.protocol import compression
from distributed.protocol.frames import MAGIC, MAX_SEGMENTS, FrameReader, frame_buffers

first_segments = st.binary(min_size=1, max_size=40)
frames_of_segments = st.tuples(first_segments, st.lists(st.binary(max_size=60), max_size=4)).map(
    lambda p: [p[0], *p[1]]
)


def wire(segments, **options):
    buffers, total = frame_buffers(segments, **options)
    data = b"".join(buffers)
    assert len(data) == total
    return data


def plain(frames):
    return [[bytes(segment) for segment in frame.segments] for frame in frames]


@given(st.binary(min_size=1, max_size=12_000))
def test_one_short_segment_travels_like_any_other(segment):
    stream = wire([segment], first=5)
    assert stream == wire([bytearray(segment)], first=5)  # by the general way
    assert [(frame.first, plain([frame])[0]) for frame in FrameReader().feed(stream)] == [(5, [segment])]


def test_one_short_segment_keeps_the_limits():
    with pytest.raises(ValueError, match="the limit is 9 "):
        wire([bytes(10)], max_frame_bytes=9)
    with pytest.raises(FrameError, match="more than the limit of 9"):
        FrameReader(max_frame_bytes=9).feed(wire([bytes(10)]))
    with pytest.raises(FrameError, match="wrong checksum"):
        FrameReader(checked=True).feed(wire([bytes(10)]))


@given(st.lists(frames_of_segments, min_size=1, max_size=4), st.data())
def test_cut_anywhere(batches, data):
    stream = b"".join(wire(segments, first=i) for i, segments in enumerate(batches))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader, out = FrameReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        for frame in reader.feed(memoryview(stream)[start:end]):
            out.append((frame.first, plain([frame])[0]))
    assert out == list(enumerate(batches))
    assert reader.idle


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("method", [None, "zlib"])
def test_split_at_every_byte(method, checked):
    segments = [b"messages", b"", b"x" * 12_000, b"end"]
    stream = wire(segments, first=7, compression=method, checked=checked) + wire([b"next"], first=8, checked=checked)
    for cut in range(len(stream) + 1):
        reader = FrameReader(checked=checked)
        got = plain(reader.feed(stream[:cut])) + plain(reader.feed(stream[cut:]))
        assert got == [segments, [b"next"]]


def test_one_byte_at_a_time_and_idle():
    stream = wire([b"ab", b"cd"])
    reader = FrameReader()
    for i, byte in enumerate(stream):
        frames = reader.feed(bytes([byte]))
        assert reader.idle == (i == len(stream) - 1)
    assert plain(frames) == [[b"ab", b"cd"]]


def arrives_in_place(stream, reader):
    position = 100
    frames = reader.feed(stream[:position])
    while not frames:
        target = reader.target()
        n = min(30_000 if target is None else target.nbytes, stream.nbytes - position)
        piece = stream[position : position + n]
        position += n
        if target is None:
            frames = reader.feed(piece)
        else:
            target[:n] = piece
            frames = reader.filled(n)
    assert position == stream.nbytes and reader.idle
    return memoryview(frames[0].segments[1])


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("nbytes", [70_000, 1 << 20, 5 << 20])
def test_large_segments_arrive_in_place(nbytes, checked):
    body = bytes(range(256)) * (nbytes // 256)
    stream = bytearray(wire([b"m", body], checked=checked))
    segment = arrives_in_place(memoryview(stream), FrameReader(checked=checked))
    assert segment == body and not segment.readonly
    if checked:
        stream[nbytes // 2] ^= 4
        with pytest.raises(FrameError, match="changed on the way"):
            arrives_in_place(memoryview(stream), FrameReader(checked=True))


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize("method", [None, "zlib"])
def test_every_flipped_bit_is_noticed_before_the_frame_ends(step, method):
    """Also one in a count or a length: nobody waits for bytes that do not come, and nothing wrong is delivered."""
    segments = [b"messages", b"ab", b"x" * 12_000 if method else b"xyz"]
    good = wire(segments, first=7, compression=method, checked=True)
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        reader = FrameReader(checked=True)
        with pytest.raises(FrameError):
            for i in range(0, len(bad), step):
                assert not reader.feed(bad[i : i + step])


def test_checksums_are_for_both_ends_or_for_none():
    with pytest.raises(FrameError, match="checksum"):
        FrameReader(checked=True).feed(wire([b"messages"] * 3))
    with pytest.raises(FrameError, match="unasked"):
        FrameReader().feed(wire([b"messages"], checked=True))


def test_what_the_receiver_would_refuse_is_not_sent():
    with pytest.raises(ValueError, match=r"5001 bytes.*limit is 5000.*max-frame-bytes"):
        frame_buffers([b"m", bytes(5000)], max_frame_bytes=5000)
    frame_buffers([b"m", bytes(4999)], max_frame_bytes=5000)


def test_segments_beside_the_first_are_writable_and_own():
    scratch = bytearray(wire([b"m", b"data"]))
    (frame,) = FrameReader().feed(scratch)
    scratch[-1] = 0
    assert bytes(frame.segments[1]) == b"data"
    assert not memoryview(frame.segments[1]).readonly


def head(count=1, flags=0, magic=MAGIC, lengths=(5,)):
    return struct.pack("!BBHQ", magic, flags, count, 0) + struct.pack(f"!{len(lengths)}Q", *lengths)


@pytest.mark.parametrize(
    "bad",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 64,
        head(count=0, lengths=()),
        head(flags=0x80),
        head(lengths=(0,)),
        head(lengths=(1 << 33,)),
        head(lengths=(1 << 63,)),
        head(count=2, lengths=(5, 1 << 41)),
        head(count=2, lengths=(5, (1 << 64) - 1)),
    ],
)
def test_nonsense_is_refused_without_memory(bad):
    for step in (1, len(bad)):
        tracemalloc.start()
        try:
            reader = FrameReader()
            with pytest.raises(FrameError):
                for i in range(0, len(bad), step):
                    reader.feed(bad[i : i + step])
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


def test_the_error_names_declared_size_and_limit():
    with pytest.raises(FrameError, match=r"5000 bytes.*4096"):
        FrameReader(max_frame_bytes=4096).feed(head(lengths=(5000,)))
    with pytest.raises(FrameError, match="3 segments"):
        FrameReader(max_segments=2).feed(head(count=3, lengths=(1, 1, 1)))
    assert issubclass(FrameError, CommClosedError)


def test_foreign_first_byte_is_refused_at_once():
    with pytest.raises(FrameError):
        FrameReader().feed(b"G")


def test_declared_memory_is_not_taken_before_bytes_come():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    before = resident()
    reader = FrameReader()
    reader.feed(head(count=2, lengths=(1, 4 << 30)) + b"x" + b"y" * 1000)
    assert resident() - before < 16 << 20
    assert not reader.idle


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_random_bytes_never_surprise(data):
    try:
        FrameReader(max_frame_bytes=1 << 16).feed(data)
        FrameReader(max_frame_bytes=1 << 16).feed(bytes([MAGIC, 0, 0]) + data)
        FrameReader(max_frame_bytes=1 << 16).feed(bytes([MAGIC, 1, 0]) + data)
    except FrameError:
        pass


def test_too_many_segments_to_send():
    with pytest.raises(FrameError):
        frame_buffers([b"x"] * (MAX_SEGMENTS + 1))
    with pytest.raises(FrameError):
        frame_buffers([])


@pytest.mark.parametrize("method", compression.available())
def test_compression(method):
    gains, does_not = b"abc" * 50_000, bytes(bytearray(__import__("random").Random(0).randbytes(150_000)))
    stream = wire([b"m", gains, does_not], compression=method)
    assert len(stream) < 200_000
    (frame,) = FrameReader().feed(stream)
    assert plain([frame]) == [[b"m", gains, does_not]]
    assert not memoryview(frame.segments[1]).readonly


@pytest.mark.parametrize("method", compression.available())
@pytest.mark.parametrize("declared", [0, 10, 10**6 - 1, 10**6 + 1, 1 << 29, 1 << 40, 1 << 63])
def test_decompression_bombs(method, declared):
    number, data = compression.compress(memoryview(bytes(10**6)), method)
    body = struct.pack("!Q", declared) + data
    stream = head(count=2, flags=1, lengths=(1, len(body) | number << 56)) + b"m" + body
    with pytest.raises(FrameError):
        FrameReader(max_frame_bytes=1 << 30).feed(stream)


def test_damaged_or_unknown_compression():
    for number in (1, 2, 3, 9):
        body = struct.pack("!Q", 100) + b"not compressed at all"
        stream = head(count=2, flags=1, lengths=(1, len(body) | number << 56)) + b"m" + body
        with pytest.raises(FrameError):
            FrameReader().feed(stream)
    with pytest.raises(FrameError):
        FrameReader().feed(head(count=2, flags=1, lengths=(1, 3 | 1 << 56)) + b"mabc")


def test_choice_of_compression():
    assert compression.choose(False) is None
    assert compression.choose(None) is None
    assert compression.choose("zlib", ("zlib",)) == "zlib"
    assert compression.choose("zlib", ("lz4",)) is None
    assert compression.choose("auto", ()) is None
    assert compression.choose("auto", ("zlib",)) is None
    with pytest.raises(ValueError, match="no compression"):
        compression.compressor("rar")
