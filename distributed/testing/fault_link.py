"""One connection through a bad network: two sockets, and the bytes that go between them when it is time. Shell."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import Any, Literal

from distributed.testing.fault_stream import Cut, Script, Stream

Direction = Literal["up", "down"]
Directions = Literal["up", "down", "both"]

_CHUNK = 64 * 1024
_MOST_HELD = 1 << 20
"""Bytes that one direction of a link keeps at most; then its sender has to wait."""
_ORDERLY_END_S = 2.0


class Way:
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
        self._cut: Cut | None = None

    def notify(self) -> None:
        """Something about this way has changed."""
        self._news.set()

    def insert(self, data: bytes) -> None:
        """Send this too, behind what is held."""
        self._held.append((0.0, data))
        self._held_bytes += len(data)
        self.notify()

    def counts(self) -> tuple[int, int, int]:
        """Bytes passed on, changed, and sent a second time."""
        return self.nbytes, self.stream.n_flipped, self.stream.n_replayed

    async def run(self) -> None:
        """Relay until the source ends; then tell the sink. Raises Cut or OSError when that ends the link."""
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
        except Cut as cut:
            self._cut = cut
        except OSError:
            self._cut = Cut(reset=True)
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


class Link:
    """One connection through the proxy."""

    def __init__(self, number: int, near: socket.socket, far: socket.socket, script: Script, seed: object) -> None:
        self.near = near
        self.far = far
        self.up = Way(Stream(script.up, f"{seed}/{number}/up"), near, far)
        self.down = Way(Stream(script.down, f"{seed}/{number}/down"), far, near)
        self._order: asyncio.Future[Cut] = asyncio.get_running_loop().create_future()

    def ways(self, direction: Directions) -> list[Way]:
        return [*([self.up] if direction != "down" else []), *([self.down] if direction != "up" else [])]

    def cut(self, cut: Cut) -> None:
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
        except Cut as cut:
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
