"""Memory that several processes map: what is shared and what is not, over real sockets."""

from __future__ import annotations

import gc
import os
import resource
import socket
import sys
from collections import deque

import dask.config
import numpy as np
import pytest

from distributed.base.errors import CommClosedError, FrameError
from distributed.messages.control import Reply
from distributed.messages.payload import Attached, Payload
from distributed.protocol import shared_memory
from distributed.protocol.frames import FrameReader, frame_buffers
from distributed.protocol.serialize import dumps, loads

from .loops import on_both_loops, on_uvloop, until
from .test_transports import pair

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memfd is Linux's")
MB = 1 << 20


def n_segments() -> int:
    gc.collect()
    with open("/proc/self/maps") as f:
        return sum("memfd:distributed-value" in line for line in f)


def n_descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def shared_array(nbytes: int = 2 * MB) -> np.ndarray:
    return loads(shared_memory.share(dumps(np.arange(nbytes, dtype="u1"))))


def buffer_of(array: np.ndarray) -> memoryview:
    return dumps(array).attached.buffers[0]


def test_a_shared_value_is_writable_equal_and_ends_with_its_last_reference():
    before, fds = n_segments(), n_descriptors()
    array = shared_array()
    assert n_segments() == before + 1
    assert array.flags.writeable and (array == np.arange(2 * MB, dtype="u1")).all()
    part = array[: MB // 2]
    del array
    assert n_segments() == before + 1 and part[3] == 3
    del part
    assert (n_segments(), n_descriptors()) == (before, fds)


def test_what_was_written_to_is_not_what_others_have():
    array = shared_array()
    assert shared_memory.locate(buffer_of(array)) is not None
    assert int(array.sum()) > 0  # reading changes nothing
    assert shared_memory.locate(buffer_of(array)) is not None
    array[MB + 5] = 99
    assert shared_memory.locate(buffer_of(array)) is None
    assert shared_memory.locate(buffer_of(array[: MB // 2])) is not None  # other pages
    again = loads(shared_memory.share(dumps(array)))
    assert again[MB + 5] == 99 and (again == array).all()


def test_memory_that_is_not_shared_is_not_found():
    keep = shared_array()
    for buffer in (np.zeros(4 * MB, "u1").data, bytes(MB), bytearray(MB)):
        assert shared_memory.locate(buffer) is None
    del keep


def test_small_values_are_left_alone_and_shared_ones_are_not_copied_again():
    small = dumps(np.ones(1000))
    assert shared_memory.share(small) is small
    assert shared_memory.share(Payload(b"x")) == Payload(b"x")
    payload = shared_memory.share(dumps(np.ones(MB)))
    assert shared_memory.share(payload) is payload


def test_a_small_part_of_a_segment_travels_as_bytes():
    array = shared_array(4 * MB)
    for part, n in ((array, 1), (array[: 3 * MB], 1), (array[: MB // 4], 0)):
        segments = [b"first", buffer_of(part)]
        places, fds = shared_memory.take_out(segments)
        assert (len(places), len(fds)) == (n, n)


def test_a_value_of_many_buffers_is_one_segment():
    value = {i: np.full(300_000 + i, i, "u1") for i in range(8)}
    before = n_segments()
    payload = shared_memory.share(dumps(value))
    assert n_segments() == before + 1
    segments = [b"first", *payload.attached.buffers]
    places, fds = shared_memory.take_out(segments)
    assert len(places) == 8 and len(fds) == 1
    opened = loads(payload)
    assert all((opened[i] == value[i]).all() for i in value)


def descriptions(*buffers):
    """How a frame names these buffers, with descriptors of its own, as they arrive."""
    segments = [b"first", *buffers]
    places, fds = shared_memory.take_out(segments)
    return [segments[i] for i in places], deque([os.dup(fd) for fd in fds])


def test_a_large_value_lies_in_several_files_side_by_side():
    """So that several threads can write it."""
    n = 2 * shared_memory._PART_FROM + 12_345
    value = [np.random.default_rng(i).integers(0, 255, n, "u1") for i in range(2)]
    before, fds = n_segments(), n_descriptors()
    payload = shared_memory.share(dumps(value))
    assert n_segments() == before + shared_memory._N_WRITERS
    small = shared_array()
    buffers = [*payload.attached.buffers, buffer_of(small)]
    named, files = descriptions(*buffers)
    assert len(named) == 3 and len(files) == shared_memory._N_WRITERS + 1
    views = shared_memory.put_in(named, files)
    assert not files and [bytes(view) for view in views] == [bytes(buffer) for buffer in buffers]
    again, files = descriptions(*views[:2])
    assert again == named[:2]  # from hand to hand
    views += shared_memory.put_in(again, files)
    middle = n // 2
    views[0][middle] ^= 1
    assert shared_memory.locate(views[0]) is None and bytes(views[3]) == bytes(buffers[0])
    del views, payload, buffers, small
    assert (n_segments(), n_descriptors()) == (before, fds)


def test_a_file_that_ends_between_two_buffers_ends_with_its_page():
    half = 2 * shared_memory._PART_FROM
    value = [np.full(half - 10, 1, "u1"), np.full(half + 100, 2, "u1")]
    payload = shared_memory.share(dumps(value))
    named, files = descriptions(*payload.attached.buffers)
    views = shared_memory.put_in(named, files)
    assert [bytes(view) for view in views] == [bytes(part) for part in value]


def test_files_that_do_not_end_with_a_page_are_refused():
    fds = deque()
    for nbytes in (MB + 1, MB):
        fds.append(os.memfd_create("distributed", os.MFD_ALLOW_SEALING))
        os.ftruncate(fds[-1], nbytes)
        shared_memory.fcntl.fcntl(fds[-1], shared_memory.fcntl.F_ADD_SEALS, shared_memory._SEALED)
    opened = list(fds)
    with pytest.raises(FrameError, match="end with a page"):
        shared_memory.put_in([shared_memory._DESCRIPTOR.pack(0, 2, 0, MB)], fds)
    for fd in opened:
        with pytest.raises(OSError):
            os.fstat(fd)


def test_no_room_leaves_the_value_as_it_is():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    payloads = dumps(np.ones(MB)), dumps(np.ones(4 * MB))
    fds = n_descriptors()
    resource.setrlimit(resource.RLIMIT_FSIZE, (MB, hard))
    try:
        for payload in payloads:
            assert shared_memory.share(payload) is payload
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert n_descriptors() == fds


def test_a_quarter_of_the_descriptors_is_left_for_others():
    limit = shared_memory._most_mappings() * shared_memory._N_WRITERS
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert 0 < limit <= soft // 4 or soft == resource.RLIM_INFINITY


@pytest.mark.parametrize(
    "announced",
    [
        (0, 1, 0, 2 * MB),
        (0, 1, MB, 1),
        (0, 1, 1 << 63, 1 << 63),
        (1, 1, 0, 1),
        (0, 2, 0, 1),
        (0, 0, 0, 1),
        (0, 0, 0, 0),
    ],
)
def test_places_outside_of_what_has_come_are_refused(announced):
    fd = os.memfd_create("distributed", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, MB)
    shared_memory.fcntl.fcntl(fd, shared_memory.fcntl.F_ADD_SEALS, shared_memory._SEALED)
    fds = deque([fd])
    with pytest.raises(FrameError):
        shared_memory.put_in([shared_memory._DESCRIPTOR.pack(*announced)], fds)
    for left in fds:
        os.close(left)


def test_memory_that_its_writer_could_still_change_is_refused():
    fd = os.memfd_create("distributed", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, MB)
    with pytest.raises(FrameError, match="not sealed"):
        shared_memory.put_in([shared_memory._DESCRIPTOR.pack(0, 1, 0, MB)], deque([fd]))
    with pytest.raises(OSError):
        os.fstat(fd)  # closed


def test_a_segment_cannot_be_written_or_cut_by_anybody():
    array = shared_array()
    _, (fd,) = shared_memory.take_out([b"first", buffer_of(array)])
    for change in (lambda: os.pwrite(fd, b"x", 0), lambda: os.ftruncate(fd, 10), lambda: os.ftruncate(fd, 10 * MB)):
        with pytest.raises(PermissionError):
            change()


def test_a_place_in_shared_memory_is_refused_where_none_was_agreed():
    buffers, _ = frame_buffers([b"messages", b"p" * 24], shared=(1,))
    with pytest.raises(FrameError, match="unasked"):
        FrameReader().feed(b"".join(buffers))


def answer(number, *arrays):
    payload = shared_memory.share(dumps(list(arrays)))
    return Reply(number, payload)


@on_both_loops
async def test_over_a_unix_socket_descriptors_travel_and_none_is_left():
    listener, a, b = await pair("unix://", role="worker")
    assert a.comm.shares_memory and b.comm.shares_memory
    before, fds = n_segments(), n_descriptors()
    value = np.random.default_rng(0).integers(0, 255, 3 * MB, "u1")
    sent = a.comm.sent_bytes
    a.comm.send([answer(1, value, value[:5])])
    assert a.comm.sent_bytes - sent < 10_000
    await until(lambda: b.got)
    got = loads(b.got.pop().body)
    assert (got[0] == value).all() and (got[1] == value[:5]).all()
    got[0][:] = 0
    del got
    await until(lambda: (n_segments(), n_descriptors()) == (before, fds))
    await a.comm.close()
    listener.stop()


@on_both_loops
async def test_order_is_kept_while_the_peer_is_slow():
    listener, a, b = await pair("unix://", role="worker")
    b.comm.pause_reading()
    plain = np.zeros(3 * MB, "u1")
    for i in range(12):
        if i % 3 == 2:
            a.comm.send([Reply(i, dumps([plain]))])
        else:
            a.comm.send([answer(i, np.full(MB, i, "u1"), np.full(MB, i + 100, "u1"))])
        a.comm.send([Reply(100 + i, Payload(b"small"))])
    assert a.comm.pending_bytes > 0
    b.comm.resume_reading()
    await until(lambda: len(b.got) == 24)
    assert [m.id for m in b.got] == [n for i in range(12) for n in (i, 100 + i)]
    for message in b.got[::2]:
        values = loads(message.body)
        if message.id % 3 != 2:
            assert [v[-1] for v in values] == [message.id, message.id + 100]
    await a.comm.close()
    listener.stop()


@on_uvloop
async def test_more_values_than_descriptors_of_a_frame():
    listener, a, b = await pair("unix://", role="worker")
    n = shared_memory.MAX_DESCRIPTORS + 10
    parts = [shared_memory.share(dumps(np.full(shared_memory.SHARE_FROM, i % 250, "u1"))) for i in range(n)]
    buffers = [buffer for part in parts for buffer in part.attached.buffers]
    a.comm.send([Reply(1, Payload(b"many", Attached(buffers)))])
    await until(lambda: b.got, 20)
    got = b.got[0].body.attached.buffers
    assert [part[-1] for part in got] == [i % 250 for i in range(n)]
    await a.comm.close()
    listener.stop()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "unix://"])
@on_uvloop
async def test_where_it_is_not_agreed_bytes_travel(address):
    with dask.config.set({"distributed.comm.shared-memory": address.startswith("tcp")}):
        listener, a, b = await pair(address, role="worker")
    assert not a.comm.shares_memory
    a.comm.send([answer(1, np.full(2 * MB, 7, "u1"))])
    await until(lambda: b.got)
    assert a.comm.sent_bytes > 2 * MB and (loads(b.got[0].body)[0] == 7).all()
    await a.comm.close()
    listener.stop()


@on_uvloop
async def test_a_connection_that_ends_lets_go_of_descriptors_on_their_way():
    listener, a, b = await pair("unix://", role="worker")
    fds = n_descriptors()
    b.comm.pause_reading()
    a.comm.send([answer(1, np.full(2 * MB, 7, "u1"))])
    a.comm.abort()
    b.comm.abort()
    await until(lambda: n_descriptors() <= fds - 2)
    with pytest.raises(CommClosedError):
        a.send(1)
    listener.stop()


@on_uvloop
async def test_descriptors_without_a_frame_are_closed_with_the_connection():
    listener, a, b = await pair("unix://", role="worker")
    fds = n_descriptors()
    read, write = os.pipe()
    socket.send_fds(a.comm._sock, [b"\xd6"], [read])
    os.close(read)
    os.close(write)
    await until(lambda: b.comm._fds)
    b.comm.abort()
    a.comm.abort()
    await until(lambda: n_descriptors() <= fds - 2)
    listener.stop()
