"""A bad network in user space: a TCP relay that delays, throttles, corrupts, repeats, stalls, cuts and refuses. Shell.

Stand it between two programs and connect to :attr:`FaultProxy.address` instead of the target's own::

    async with FaultProxy(scheduler.address, Script(up=Faults(delay_s=0.1)), seed=1) as proxy:
        async with Client(proxy.address, asynchronous=True) as client:
            ...
            proxy.stall("up")

A client and a worker go through it when they are given its address as the scheduler's. The links from worker to worker
go through it when a worker is told to announce it: ``Worker(..., contact_address=proxy.address)`` with the proxy's
target set to where that worker listens.

What it does to a stream depends on the seed, the number of the connection and the offset in the stream, never on how
the kernel happened to cut the bytes. ``up`` is towards the target, ``down`` is back.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from distributed.comm.addressing import parse_address, parse_host_port, unparse_host_port

Direction = Literal["up", "down"]
Directions = Literal["up", "down", "both"]

_CHUNK = 64 * 1024
_MOST_HELD = 1 << 20
"""Bytes that one direction of a link keeps at most; then its sender has to wait."""
_KEPT_FOR_REPLAY = 64 * 1024
_ORDERLY_END_S = 2.0


@dataclass(frozen=True)
class Faults:
    """What happens to the bytes of one direction of a link. Offsets count from the first byte of the connection.

    Parameters
    ----------
    delay_s
        Every byte arrives so much later; order is kept.
    bytes_per_s
        At most so many; None: no limit.
    flip_one_in
        About one byte in so many has one of its bits flipped, from ``flip_from`` on; 0: none.
    flip_from
        Offset of the first byte that may be flipped so: what comes before (a handshake) stays as it was.
    flip_at
        Offsets at which a bit is flipped.
    replay
        ``(start, stop)``: those bytes come a second time, right behind ``stop``.
    truncate_at
        The connection ends in order, in both directions, before the byte at this offset.
    reset_at
        The connection is reset there.
    stall_at
        Nothing goes on from there until ``resume``; the connection stays open.
    """

    delay_s: float = 0.0
    bytes_per_s: float | None = None
    flip_one_in: int = 0
    flip_from: int = 0
    flip_at: tuple[int, ...] = ()
    replay: tuple[tuple[int, int], ...] = ()
    truncate_at: int | None = None
    reset_at: int | None = None
    stall_at: int | None = None


@dataclass(frozen=True)
class Script:
    """What happens to the connections through a proxy.

    Parameters
    ----------
    up, down
        Faults towards the target, and back.
    connections
        Numbers of the connections concerned, in order of arrival from 0; None: all. Others pass unharmed.
    """

    up: Faults = field(default_factory=Faults)
    down: Faults = field(default_factory=Faults)
    connections: tuple[int, ...] | None = None

    def for_connection(self, number: int) -> Script:
        """This script, or the empty one."""
        return self if self.connections is None or number in self.connections else Script()


class _Cut(Exception):
    """The script ends the connection here."""

    def __init__(self, reset: bool) -> None:
        super().__init__()
        self.reset = reset


class Stream:
    """One direction of one link, as far as bytes are concerned: no socket, no clock.

    Parameters
    ----------
    faults
        The part of the script for it.
    seed
        Where the flipped bits come from.
    """

    def __init__(self, faults: Faults, seed: str) -> None:
        self.faults = faults
        self.offset = 0
        self.n_flipped = 0
        self.n_replayed = 0
        self._seed = seed
        self._random = random.Random(seed)
        self._stall_told = False
        self._next_flip = self._draw(faults.flip_from)
        self._last = bytearray()
        self._recording: list[tuple[int, int, bytearray]] = [(a, b, bytearray()) for a, b in faults.replay]

    def _draw(self, begin: int) -> int | None:
        one_in = self.faults.flip_one_in
        return begin + int(self._random.expovariate(1 / one_in)) if one_in else None

    def put(self, data: bytes) -> Iterator[bytes | None]:
        """What leaves for ``data``, piece by piece; None: it stalls here. Raises _Cut where the connection ends."""
        while data:
            stop = self._next_stop(len(data))
            piece, data = data[:stop], data[stop:]
            if piece:
                yield self._take(piece)
            again = self._replays()
            if again:
                yield again
            self._maybe_cut()
            if self.faults.stall_at is not None and self.offset >= self.faults.stall_at and not self._stall_told:
                self._stall_told = True
                yield None

    def _next_stop(self, most: int) -> int:
        """How many bytes until something happens that is not a flip."""
        faults = self.faults
        marks = [faults.truncate_at, faults.reset_at, None if self._stall_told else faults.stall_at]
        marks += [b for _, b, _ in self._recording]
        return min([most, *[m - self.offset for m in marks if m is not None and m >= self.offset]])

    def _take(self, piece: bytes) -> bytes:
        begin, end = self.offset, self.offset + len(piece)
        changed = bytearray(piece)
        for at in self.faults.flip_at:
            if begin <= at < end:
                self._flip(changed, at - begin)
        while self._next_flip is not None and self._next_flip < end:
            if self._next_flip >= begin:
                self._flip(changed, self._next_flip - begin)
            self._next_flip = self._draw(self._next_flip + 1)
        for start, stop, kept in self._recording:
            if start < end and begin < stop:
                kept += changed[max(0, start - begin) : stop - begin]
        self._last += changed
        del self._last[:-_KEPT_FOR_REPLAY]
        self.offset = end
        return bytes(changed)

    def _flip(self, data: bytearray, at: int) -> None:
        # Not drawn from the same source as the offsets: what is flipped first depends on how the bytes come.
        data[at] ^= 1 << random.Random(f"{self._seed}/{self.offset + at}").randrange(8)
        self.n_flipped += 1

    def _replays(self) -> bytes:
        due = [kept for _, stop, kept in self._recording if stop == self.offset]
        self._recording = [entry for entry in self._recording if entry[1] != self.offset]
        again = b"".join(due)
        self.n_replayed += len(again)
        return again

    def _maybe_cut(self) -> None:
        if self.faults.reset_at is not None and self.offset >= self.faults.reset_at:
            raise _Cut(reset=True)
        if self.faults.truncate_at is not None and self.offset >= self.faults.truncate_at:
            raise _Cut(reset=False)

    def last(self, nbytes: int) -> bytes:
        """The last bytes that left (64 kiB are kept)."""
        again = bytes(self._last[-nbytes:])
        self.n_replayed += len(again)
        return again


class _Way:
    """One direction of a link: reads from one socket, writes to the other when it is time."""

    def __init__(self, stream: Stream, source: socket.socket, sink: socket.socket) -> None:
        self.stream = stream
        self.source = source
        self.sink = sink
        self.nbytes = 0
        self.stalled = False
        self._held: deque[tuple[float, bytes | None]] = deque()
        self._held_bytes = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        self._cut: _Cut | None = None

    def notify(self) -> None:
        """Something about this way has changed."""
        self._news.set()

    def insert(self, data: bytes) -> None:
        """Send this too, behind what is held."""
        self._held.append((0.0, data))
        self._held_bytes += len(data)
        self.notify()

    async def run(self) -> None:
        """Relay until the source ends; then tell the sink. Raises _Cut or OSError when that ends the link."""
        reader = asyncio.ensure_future(self._read())
        try:
            await self._write()
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self.source, _CHUNK):
                for piece in self.stream.put(data):
                    self._held.append((loop.time() + self.stream.faults.delay_s, piece))
                    self._held_bytes += len(piece or b"")
                    self.notify()
                    while self._held_bytes > _MOST_HELD:
                        self._room.clear()
                        await self._room.wait()
        except _Cut as cut:
            self._cut = cut
        except OSError:
            self._cut = _Cut(reset=True)
        self._ended = True
        self.notify()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self._held and not self.stalled:
                due, data = self._held.popleft()
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                if data is None:
                    self.stalled = True
                    continue
                self._held_bytes -= len(data)
                self._room.set()
                await self._send(data)
            elif self._ended and not self.stalled:
                if self._cut is not None:
                    raise self._cut
                self.sink.shutdown(socket.SHUT_WR)
                return
            else:
                self._news.clear()
                await self._news.wait()

    async def _send(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        rate = self.stream.faults.bytes_per_s
        step = len(data) if rate is None else max(1, int(rate / 50))
        for begin in range(0, len(data), max(1, step)):
            while self.stalled:
                self._news.clear()
                await self._news.wait()
            piece = data[begin : begin + step]
            await loop.sock_sendall(self.sink, piece)
            self.nbytes += len(piece)
            if rate is not None:
                await asyncio.sleep(len(piece) / rate)


class _Link:
    """One connection through the proxy."""

    def __init__(self, number: int, near: socket.socket, far: socket.socket, script: Script, seed: object) -> None:
        self.near = near
        self.far = far
        self.up = _Way(Stream(script.up, f"{seed}/{number}/up"), near, far)
        self.down = _Way(Stream(script.down, f"{seed}/{number}/down"), far, near)
        self._order: asyncio.Future[_Cut] = asyncio.get_running_loop().create_future()

    def ways(self, direction: Directions) -> list[_Way]:
        return [*([self.up] if direction != "down" else []), *([self.down] if direction != "up" else [])]

    def cut(self, cut: _Cut) -> None:
        """End the link now; what is held is lost."""
        if not self._order.done():
            self._order.set_result(cut)

    async def run(self) -> None:
        ways = [asyncio.ensure_future(self.up.run()), asyncio.ensure_future(self.down.run())]
        both = asyncio.gather(*ways)
        try:
            waited: list[asyncio.Future[Any]] = [both, self._order]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if self._order.done():
                raise self._order.result()
            await both
        except _Cut as cut:
            if cut.reset:
                self.reset()
            else:
                await self._end_in_order(ways)
        except OSError:
            self.reset()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(both, *ways, return_exceptions=True)
            self.near.close()
            self.far.close()

    async def _end_in_order(self, ways: list[asyncio.Task[None]]) -> None:
        """Close so that neither end sees a reset: what it still sends is read and dropped until it closes too."""
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        try:
            async with asyncio.timeout(_ORDERLY_END_S):
                for sock in (self.near, self.far):
                    sock.shutdown(socket.SHUT_WR)
                for sock in (self.near, self.far):
                    while await asyncio.get_running_loop().sock_recv(sock, _CHUNK):
                        pass
        except (OSError, TimeoutError):
            pass

    def reset(self) -> None:
        """Have the close tell both ends that the connection is broken."""
        for sock in (self.near, self.far):
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class FaultProxy:
    """Relays TCP connections to ``target``, with faults. Everything is called on the event loop.

    Parameters
    ----------
    target
        ``tcp://host:port``, or ``host:port``; may be set before the first connection.
    script
        What happens to connections; None: nothing. Setting ``proxy.script`` later is for later connections.
    seed
        The same seed and script do the same to the same bytes.

    Attributes
    ----------
    address : str
        ``tcp://127.0.0.1:port``, the same for as long as the proxy lives.
    n_connections, n_failed : int
        Connections taken so far; those for which the target did not answer.
    """

    def __init__(self, target: str = "", script: Script | None = None, seed: object = 0) -> None:
        self.target = target
        self.script = script or Script()
        self.seed = seed
        self.address = ""
        self.n_connections = 0
        self.n_failed = 0
        self._port = 0
        self._listening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: dict[Direction, list[int]] = {"up": [0, 0, 0], "down": [0, 0, 0]}
        self._stalled: Directions | None = None

    # --- life

    async def __aenter__(self) -> FaultProxy:
        self.accept()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        listening = self._listening
        self.refuse()
        tasks = {*self._tasks, *([listening] if listening is not None else [])}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def accept(self) -> None:
        """Take connections (again), at the same port."""
        if self._listening is not None:
            return
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", self._port))
            sock.listen(128)
        except OSError:
            sock.close()
            raise
        sock.setblocking(False)
        host, self._port = sock.getsockname()
        self.address = f"tcp://{unparse_host_port(host, self._port)}"
        self._listening = asyncio.ensure_future(self._accept(sock))

    def refuse(self, seconds: float | None = None) -> None:
        """Nobody listens here, for so long or until ``accept()``; links that are open stay."""
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.accept)

    async def _accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                near, _ = await loop.sock_accept(sock)
                near.setblocking(False)
                number, self.n_connections = self.n_connections, self.n_connections + 1
                task = asyncio.ensure_future(self._serve(number, near))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            sock.close()

    async def _serve(self, number: int, near: socket.socket) -> None:
        far = socket.socket()
        far.setblocking(False)
        try:
            host, port = parse_host_port(parse_address(self.target)[1])
            await asyncio.get_running_loop().sock_connect(far, (host or "127.0.0.1", port))
        except OSError:
            self.n_failed += 1
            near.close()
            far.close()
            return
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(number, near, far, self.script.for_connection(number), self.seed)
        if self._stalled is not None:
            for way in link.ways(self._stalled):
                way.stalled = True
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
            for direction, way in (("up", link.up), ("down", link.down)):
                for i, n in enumerate(_counts(way)):
                    self._ended[direction][i] += n  # type: ignore[index]

    # --- what there was

    @property
    def n_open(self) -> int:
        """Links that are open."""
        return len(self._links)

    def nbytes(self, direction: Direction) -> int:
        """Bytes passed on."""
        return self._count(direction, 0)

    def n_flipped(self, direction: Direction) -> int:
        """Bytes that were changed."""
        return self._count(direction, 1)

    def n_replayed(self, direction: Direction) -> int:
        """Bytes that were sent a second time."""
        return self._count(direction, 2)

    def _count(self, direction: Direction, i: int) -> int:
        return self._ended[direction][i] + sum(_counts(link.ways(direction)[0])[i] for link in self._links)

    def __repr__(self) -> str:
        return f"<FaultProxy {self.address} for {self.target}: {self.n_open} open of {self.n_connections}>"

    # --- what is to happen now

    def stall(self, direction: Directions = "both") -> None:
        """Nothing goes on in this direction, on old and new links; they stay open."""
        self._stalled = direction
        self._each_way(direction, lambda way: setattr(way, "stalled", True))

    def resume(self) -> None:
        """Undo ``stall``, and a stall of the script; what has piled up goes on."""
        self._stalled = None
        self._each_way("both", lambda way: setattr(way, "stalled", False))

    def reset(self) -> None:
        """Break every link: both ends see a reset."""
        for link in list(self._links):
            link.cut(_Cut(reset=True))

    def close_links(self) -> None:
        """End every link in order, as if each end had closed it."""
        for link in list(self._links):
            link.cut(_Cut(reset=False))

    def set_faults(self, up: Faults | None = None, down: Faults | None = None) -> None:
        """Change delay and rate of the links that are open, and the script for later ones."""
        self.script = Script(up or self.script.up, down or self.script.down, self.script.connections)
        for link in self._links:
            for way, faults in ((link.up, up), (link.down, down)):
                if faults is not None:
                    way.stream.faults = faults

    def replay(self, nbytes: int, direction: Direction = "up") -> None:
        """Send the last ``nbytes`` of each link once more (at most 64 kiB)."""
        self._each_way(direction, lambda way: way.insert(way.stream.last(nbytes)))

    def inject(self, data: bytes, direction: Direction = "up") -> None:
        """Put bytes into each link that nobody sent."""
        self._each_way(direction, lambda way: way.insert(data))

    def _each_way(self, direction: Directions, change: Callable[[_Way], None]) -> None:
        for link in self._links:
            for way in link.ways(direction):
                change(way)
                way.notify()


def _counts(way: _Way) -> tuple[int, int, int]:
    return way.nbytes, way.stream.n_flipped, way.stream.n_replayed
