"""One contract, every transport, both event loops, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import threading
import time

import dask.config
import numpy as np
import pytest

from distributed.base.errors import CommClosedError
from distributed.comm import connect, listen, offers, registry, unix
from distributed.comm.encrypted import TLSComm
from distributed.comm.inproc import InprocComm
from distributed.comm.keys import Secret
from distributed.comm.security import Security
from distributed.messages.control import Control, Reply, Request
from distributed.messages.payload import Attached, Payload
from distributed.protocol.codec import Codec
from distributed.protocol.frames import frame_buffers

from .loops import on_both_loops, on_uvloop, run_on, until

SECRET = Secret.from_text("of the tests")
ADDRESSES = [
    "tcp://127.0.0.1:0",
    "tcp://[::1]:0",
    "tls://127.0.0.1:0",
    "encrypted://127.0.0.1:0",
    "unix://",
    "inproc://",
]
CERTIFICATES = Security.temporary()


class End:
    """One end of a link, with all that arrives."""

    def __init__(self, comm):
        self.comm = comm
        self.got = []
        self.batches = 0
        self.closed = asyncio.get_running_loop().create_future()
        comm.start(self.on_batch, self.on_close, Codec(Control))

    def on_batch(self, batch):
        self.batches += 1
        self.got += batch

    def on_close(self, error):
        self.closed.set_result(error)

    def send(self, *numbers):
        self.comm.send([Request(n, "op", Payload(b"x")) for n in numbers])

    @property
    def numbers(self):
        return [m.id for m in self.got]


async def pair(address, ends=None, **options):
    """``encrypted://`` is tcp with another machine, as far as encryption goes."""
    ends = [] if ends is None else ends
    if address.startswith("tls://"):
        options["security"] = CERTIFICATES
    with dask.config.set({"distributed.comm.encryption": True if address.startswith("encrypted") else "auto"}):
        address = address.replace("encrypted://", "tcp://")
        listener = listen(
            address,
            lambda comm: ends.append(End(comm)),
            role="scheduler",
            secret=SECRET,
            security=options.get("security"),
        )
        await listener.start()
        options.setdefault("shortcuts", address.startswith("inproc"))
        a = End(await connect(listener.contact_address, 5, secret=SECRET, **options))
        await until(lambda: ends)
    return listener, a, ends[0]


transports = pytest.mark.parametrize("address", ADDRESSES)
in_clear = pytest.mark.parametrize("address", [a for a in ADDRESSES if not a.startswith(("tls", "encrypted"))])


@transports
@on_both_loops
async def test_messages_arrive_both_ways_in_order(address):
    listener, a, b = await pair(address, role="worker")
    assert (a.comm.role, a.comm.peer_role) == ("worker", "scheduler")
    assert (b.comm.role, b.comm.peer_role) == ("scheduler", "worker")
    for i in range(0, 3000, 3):
        a.send(i, i + 1, i + 2)
        b.send(-i)
    await until(lambda: len(b.got) == 3000 and len(a.got) == 1000)
    assert b.numbers == list(range(3000))
    assert a.numbers == [-i for i in range(0, 3000, 3)]
    await a.comm.close()
    assert await b.closed is None
    assert await a.closed is None
    listener.stop()


@transports
@on_both_loops
async def test_big_buffers(address):
    listener, a, b = await pair(address)
    arrays = [
        np.random.default_rng(i).integers(0, 255, n, "u1") for i, n in enumerate((5 << 20, 100, 70_000, 20 << 20))
    ]
    for array in arrays:
        a.comm.send([Reply(array.size, Payload(b"data", Attached([array, memoryview(b"small")])))])
    a.send(1)
    await a.comm.drain()
    await until(lambda: len(b.got) == 5)
    for array, reply in zip(arrays, b.got, strict=False):
        big, small = reply.body.attached.buffers
        assert bytes(small) == b"small"
        received = np.frombuffer(big, "u1")
        assert (received == array).all()
        assert received.flags.writeable
        assert np.shares_memory(received, array) == (address == "inproc://")
    assert b.got[4].id == 1
    await asyncio.gather(a.comm.close(), b.comm.close())
    listener.stop()


@transports
@on_both_loops
async def test_close_sends_what_is_pending(address):
    listener, a, b = await pair(address)
    big = os.urandom(30 << 20)
    a.comm.send([Reply(7, Payload(b"", Attached([big])))])
    if not a.comm.same_process:
        assert a.comm.pending_bytes > 1 << 20
    await a.comm.close()
    await b.closed
    assert b.numbers == [7] and len(b.got[0].body.attached.buffers[0]) == len(big)
    assert a.comm.closed and b.comm.closed
    for end in (a, b):
        with pytest.raises(CommClosedError):
            end.send(1)
        await end.comm.close()
        end.comm.abort()
    listener.stop()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "unix://"])
@on_both_loops
async def test_what_a_peer_said_before_it_went_is_read_though_nothing_can_be_sent_to_it(address):
    listener, a, b = await pair(address)
    a.send(*range(100))
    await a.comm.close()
    with contextlib.suppress(CommClosedError):  # before the loop has looked at what came
        while True:
            b.send(1)
    await b.closed
    assert b.numbers == list(range(100))
    listener.stop()


@transports
@on_both_loops
async def test_abort(address):
    listener, a, b = await pair(address)
    a.comm.abort(ValueError("mine"))
    assert isinstance(await a.closed, ValueError)
    await b.closed
    assert b.comm.closed
    listener.stop()


@transports
@on_both_loops
async def test_many_small_messages(address):
    listener, a, b = await pair(address)
    n = 100_000
    for i in range(0, n, 100):
        a.send(*range(i, i + 100))
        if not i % 5000:
            await a.comm.drain()
    await until(lambda: len(b.got) == n, 30)
    assert b.numbers == list(range(n))
    await a.comm.close()
    await b.closed
    listener.stop()


@transports
@on_both_loops
async def test_backpressure(address):
    listener, a, b = await pair(address)
    b.comm.pause_reading()
    sent = 0
    while a.comm.pending_bytes < 20 << 20 and sent < 400_000:
        if address == "inproc://":
            a.send(*range(1000))
            sent += 1000
            if sent >= 30_000:
                break
        else:
            a.comm.send([Reply(0, Payload(bytes(1 << 20)))])
            sent += 1
    waiting = asyncio.ensure_future(a.comm.drain())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    b.comm.resume_reading()
    await waiting
    await until(lambda: len(b.got) == sent)
    # A drain that waits ends with the comm.
    b.comm.pause_reading()
    while a.comm.pending_bytes < 20 << 20 and address != "inproc://":
        a.comm.send([Reply(0, Payload(bytes(1 << 20)))])
    waiting = asyncio.ensure_future(a.comm.drain())
    await asyncio.sleep(0.01)
    a.comm.abort()
    if address != "inproc://":
        with pytest.raises(CommClosedError):
            await waiting
    else:
        await asyncio.gather(waiting, return_exceptions=True)
    b.comm.resume_reading()
    await b.closed
    listener.stop()


@transports
@on_both_loops
async def test_a_message_that_cannot_be_encoded_harms_nobody(address):
    if address == "inproc://":
        return
    listener, a, b = await pair(address)
    with pytest.raises(TypeError):
        a.comm.send([Reply(1, (i for i in ()))])
    a.send(2)
    await until(lambda: b.got)
    assert b.numbers == [2]
    await a.comm.close()
    await b.closed
    listener.stop()


@in_clear
@on_both_loops
async def test_an_error_of_a_receiver_loses_no_other_message(address):
    ends = []
    listener = listen(address, ends.append, role="scheduler", secret=SECRET)
    await listener.start()
    comm = await connect(listener.contact_address, 5, secret=SECRET, shortcuts=address == "inproc://")
    a = End(comm)
    await until(lambda: ends)
    got = []

    def on_batch(batch):
        got.extend(m.id for m in batch)
        if 1 in got and address != "inproc://":
            raise RuntimeError("a defect")

    closed = asyncio.Event()
    ends[0].start(on_batch, lambda e: closed.set(), Codec(Control))
    for i in range(5):
        a.send(i)
    await until(lambda: got == [0, 1, 2, 3, 4])
    await a.comm.close()
    await closed.wait()
    listener.stop()


@on_both_loops
async def test_compression_and_checksums_between_machines_only(monkeypatch):
    ends = []
    listener, a, b = await pair("tcp://127.0.0.1:0", ends=ends)
    assert a.comm.compression is None and b.comm.compression is None
    monkeypatch.setattr(offers.addressing, "is_own_ip", lambda ip: False)
    c = End(await connect(listener.contact_address, 5, secret=SECRET, shortcuts=False))
    assert type(c.comm) is TLSComm and not c.comm.checked  # TLS has checksums of its own
    c.comm.abort()
    await until(lambda: len(ends) == 2)
    ends.pop().comm.abort()
    monkeypatch.setattr(offers, "_wants_encryption", lambda elsewhere: False)
    c = End(await connect(listener.contact_address, 5, secret=SECRET, shortcuts=False))
    assert c.comm.compression in ("lz4", "zstd") and c.comm.checked and not a.comm.checked
    dull, random = bytes(3_000_000), os.urandom(300_000)
    await until(lambda: len(ends) == 2)
    c.comm.send([Reply(1, Payload(b"", Attached([dull, random])))])
    assert c.comm.pending_bytes < 1_000_000
    await until(lambda: ends[1].got)
    got = ends[1].got[0].body.attached.buffers
    assert [bytes(buffer) for buffer in got] == [dull, random] and ends[1].comm.checked
    assert not any(memoryview(buffer).readonly for buffer in got)
    with dask.config.set({"distributed.comm.compression": False}):
        d = End(await connect(listener.contact_address, 5, secret=SECRET, shortcuts=False))
        assert d.comm.compression is None
    for end in (a, b, c, d):
        end.comm.abort()
    listener.stop()


@on_uvloop
async def test_loss_and_repetition_are_noticed():
    listener, a, b = await pair("tcp://127.0.0.1:0")
    a.send(1)
    a.comm._sent += 1
    a.send(2)
    error = await b.closed
    assert "message 1 should come next, not 2" in str(error)
    assert b.numbers == [1]
    await a.closed
    listener.stop()


@on_uvloop
async def test_garbage_of_an_authenticated_peer_closes_its_connection_only():
    listener, a, b = await pair("tcp://127.0.0.1:0")
    c = End(await connect(listener.contact_address, 5, secret=SECRET, shortcuts=False))
    a.comm._sock.send(b"GET / HTTP/1.1\r\n\r\n")
    assert "beginning of a frame" in str(await b.closed)
    await a.closed
    data, _ = frame_buffers([b"\xc1\xff\x00"], 0)
    c.comm._sock.send(data[0])
    await c.closed
    assert c.comm.closed
    d = End(await connect(listener.contact_address, 5, secret=SECRET, shortcuts=False))
    await d.comm.close()
    listener.stop()


@on_uvloop
async def test_end_in_the_middle_of_a_message():
    listener, a, b = await pair("tcp://127.0.0.1:0")
    a.comm._sock.send(b"".join(frame_buffers([bytes(1000)], 0)[0])[:500])
    a.comm.abort()
    assert "in the middle" in str(await b.closed)
    listener.stop()


@in_clear
@on_both_loops
async def test_dead_address(address):
    listener = listen(address, lambda c: None, secret=SECRET)
    await listener.start()
    where = listener.contact_address
    with pytest.raises(OSError, match="already in use"):
        await listen(where, lambda c: None, secret=SECRET).start()
    listener.stop()
    listener.stop()
    begin = time.monotonic()
    with pytest.raises(ConnectionRefusedError, match="refused"):
        await connect(where, 10, secret=SECRET)
    assert time.monotonic() - begin < 9
    with pytest.raises(ConnectionRefusedError):
        await connect(where, 10, secret=SECRET, retry_refused_s=0.2)
    assert 0.15 < time.monotonic() - begin < 18
    # It may come back, and waiting for that is possible.
    again = listen(where, lambda c: End(c), secret=SECRET)
    attempt = asyncio.ensure_future(connect(where, 10, secret=SECRET, retry_refused_s=5))
    await asyncio.sleep(0.05)
    await again.start()
    comm = await attempt
    await comm.close()
    again.stop()


@on_both_loops
async def test_silent_address():
    """Somebody accepts and says nothing: an error at the timeout."""
    silent = []  # a writer that nobody holds hangs up (from Python 3.12 on)
    server = await asyncio.start_server(lambda r, w: silent.append(w), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=rf"tcp://127.0.0.1:{port} timed out.*handshake"):
        await connect(f"127.0.0.1:{port}", 1, secret=SECRET)
    assert 0.9 < time.monotonic() - begin < 20
    for writer in silent:
        writer.close()
    server.close()


@on_both_loops
async def test_unreachable_address(monkeypatch):
    async def never(visit):
        await asyncio.sleep(100)

    monkeypatch.setitem(registry.transports, "tcp", registry.Transport(never, None))
    with pytest.raises(TimeoutError, match=r"no answer from tcp://203.0.113.1:9 within 0.1 s.*timed out"):
        await connect("tcp://203.0.113.1:9", 0.1)


@on_both_loops
async def test_bad_addresses():
    for address, words in [
        ("foo://x:1", "no transport for the scheme"),
        ("tcp://h", "names no port"),
        ("tcp://h:x", "number"),
    ]:
        with pytest.raises(ValueError, match=words):
            await connect(address, 1)
    with pytest.raises(OSError, match=r"unknown host 'no-such-host\.invalid"):
        await connect("tcp://no-such-host.invalid:1", 5)
    with pytest.raises(ConnectionRefusedError):
        await connect("unix:///nowhere/at/all", 5)
    with pytest.raises(OSError, match="cannot listen at"):
        await listen("unix:///nowhere/at/all", lambda c: None).start()
    with pytest.raises(OSError, match="cannot listen at"):
        await listen("tcp://203.0.113.1:0", lambda c: None).start()


@on_uvloop
async def test_addresses_of_listeners():
    everywhere = listen("tcp://:0", lambda c: End(c), secret=SECRET)
    await everywhere.start()
    port = int(everywhere.contact_address.rpartition(":")[2])
    assert everywhere.listen_address == f"tcp://0.0.0.0:{port}" and port
    assert not everywhere.contact_address.startswith("tcp://0.0.0.0")
    for host in ("127.0.0.1", "localhost", everywhere.contact_address[6:].rpartition(":")[0]):
        for shortcuts in (True, False):
            comm = await connect(f"tcp://{host}:{port}", 5, secret=SECRET, shortcuts=shortcuts)
            assert comm.same_process == shortcuts
            await comm.close()
    everywhere.stop()
    named = listen("tcp://127.0.0.1", lambda c: None, secret=SECRET, contact_host="example.org", default_port=0)
    await named.start()
    assert named.contact_address.startswith("tcp://example.org:")
    named.stop()


@on_uvloop
async def test_the_unix_twin(monkeypatch):
    ends = []
    listener = listen("tcp://127.0.0.1:0", ends.append, secret=SECRET)
    await listener.start()
    directory = unix.runtime_directory()
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    (name,) = os.listdir(directory)
    assert stat.S_IMODE(os.stat(os.path.join(directory, name)).st_mode) == 0o600
    monkeypatch.setattr(registry.tcp, "find_door", lambda host, port: None)  # as another process would
    for address in (listener.contact_address, listener.contact_address.replace("127.0.0.1", "localhost")):
        comm = await connect(address, 5, secret=SECRET)
        assert comm.local_address.startswith("unix:") and comm.peer_address == address
        await comm.close()
    # A directory that others may enter is not used.
    os.chmod(directory, 0o755)
    comm = await connect(listener.contact_address, 5, secret=SECRET)
    assert comm.local_address.startswith("tcp:")
    await comm.close()
    os.chmod(directory, 0o700)
    # One left behind by a killed listener neither.
    listener._twin._acceptor._accepting._sock.close()
    listener._twin._acceptor._loop.remove_reader(listener._twin._acceptor._accepting._fd)
    comm = await connect(listener.contact_address, 5, secret=SECRET)
    assert comm.local_address.startswith("tcp:")
    await comm.close()
    # A new listener takes the place of the dead one, and tidies up.
    port = int(listener.contact_address.rpartition(":")[2])
    path = unix.twin_path("127.0.0.1", port)
    other = unix.UnixListener(path, ends.append, "worker", SECRET)
    await other.start()
    other.stop()
    assert os.listdir(directory) == []
    listener.stop()


@on_uvloop
async def test_sockets_of_killed_processes_are_swept(tmp_path):
    directory = unix.runtime_directory()
    os.mkdir(directory, 0o700)
    alive = socket.socket(socket.AF_UNIX)
    paths = {name: os.path.join(directory, name) for name in ("dead", "young", "alive", "file")}
    for name in ("dead", "young"):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(paths[name])
    alive.bind(paths["alive"])
    alive.listen()
    with open(paths["file"], "w"):
        pass
    for name in ("dead", "alive", "file"):
        os.utime(paths[name], (1, 1))
    unix._sweep.cache_clear()
    listener = listen("tcp://127.0.0.1:0", lambda c: None, secret=SECRET)
    await listener.start()
    listener.stop()
    assert sorted(os.listdir(directory)) == ["alive", "file", "young"]
    alive.close()


@on_uvloop
async def test_a_file_in_the_way_is_not_removed(tmp_path):
    path = tmp_path / "x"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        await listen(f"unix://{path}", lambda c: None, secret=SECRET).start()
    assert path.read_text() == "precious"
    with pytest.raises(OSError, match="at most"):
        await listen("unix://" + "/x" * 100, lambda c: None, secret=SECRET).start()


@pytest.mark.parametrize("kinds", [("uvloop", "asyncio"), ("uvloop", "uvloop"), ("asyncio", "uvloop")])
@pytest.mark.parametrize("address", ["inproc://", "tcp://127.0.0.1:0"])
def test_inproc_across_threads(kinds, address):
    """A connect from another thread's loop, in the same process: live objects, in order, both ways."""
    n = 20_000
    ready, done = threading.Event(), threading.Event()
    where = []
    errors = []

    async def serve():
        ends = []

        def on_comm(comm):
            end = End(comm)
            ends.append(end)

        listener = listen(address, on_comm, secret=SECRET)
        await listener.start()
        where.append(listener.contact_address)
        ready.set()
        await until(lambda: ends and len(ends[0].got) == n, 20)
        end = ends[0]
        assert end.numbers == list(range(n))
        end.comm.send(end.got)  # the objects themselves
        await end.closed
        listener.stop()

    def run():
        try:
            run_on(kinds[0], serve)
        except BaseException as e:
            errors.append(e)
        finally:
            done.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)

    async def visit():
        a = End(await connect(where[0], 5))
        assert a.comm.same_process
        sent = [Request(i, "op", Payload()) for i in range(n)]
        for i in range(0, n, 10):
            a.comm.send(sent[i : i + 10])
            if not i % 1000:
                await asyncio.sleep(0)
        await until(lambda: len(a.got) == n, 20)
        assert all(x is y for x, y in zip(sent, a.got, strict=True))
        await a.comm.close()
        await a.closed

    run_on(kinds[1], visit)
    assert done.wait(10)
    thread.join()
    assert not errors, errors


@on_uvloop
async def test_a_peer_loop_that_is_gone():
    """The other thread's loop was closed without a word: an error, no wait."""
    other = asyncio.new_event_loop()
    ours, _ = InprocComm.pair(asyncio.get_running_loop(), other)
    end = End(ours)
    other.close()
    with pytest.raises(CommClosedError, match="loop of the peer"):
        end.send(1)
    await end.closed


@on_uvloop
async def test_no_file_descriptor_is_left():
    before = len(os.listdir("/proc/self/fd"))
    for address in ADDRESSES[:3]:
        listener, a, b = await pair(address)
        await a.comm.close()
        await b.closed
        listener.stop()
    assert len(os.listdir("/proc/self/fd")) == before


@on_both_loops
async def test_within_a_loop_nobody_is_called_amid_a_call_of_the_other():
    loop = asyncio.get_running_loop()
    a, b = InprocComm.pair(loop, loop)
    calls = []

    def enters(name, comm):
        def on_batch(batch):
            calls.append((name, "begins", batch[0]))
            if batch[0] < 6:
                comm.send([batch[0] + 1])
                comm.send([batch[0] + 10])
            calls.append((name, "ends", batch[0]))

        return on_batch

    a.start(enters("a", a), lambda error: None, Codec(Control))
    b.start(enters("b", b), lambda error: None, Codec(Control))
    a.send([5])
    assert calls == [("b", "begins", 5), ("b", "ends", 5)]  # at once, and what it sends later
    a.send([0])
    await until(lambda: len([call for call in calls if call[1] == "ends"]) >= 3 + 2 * 6 + 1)
    assert [step for _, step, _ in calls] == ["begins", "ends"] * (len(calls) // 2)
    assert [number for name, step, number in calls if step == "begins" and name == "a"][:4] == [6, 15, 1, 10]
    a.abort()
