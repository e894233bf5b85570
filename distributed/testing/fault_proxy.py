"""A bad network in user space: a TCP relay that delays, throttles, corrupts, repeats, stalls, cuts and refuses. Shell.

Stand it between two programs and connect to :attr:`FaultProxy.address` instead of the target's own::

    async with FaultProxy(scheduler.address, Script(up=Faults(delay_s=0.1)), seed=1) as proxy:
        async with Client(proxy.address, asynchronous=True) as client:
            ...
            proxy.stall("up")

A client and a worker go through it when they are given its address as the scheduler's. The links from worker to worker
go through it when a worker is told to announce it: ``Worker(..., contact_address=proxy.address)`` with the proxy's
target set to where that worker listens.

What it does to a stream (``fault_stream.py``) depends on the seed, the number of the connection and the offset in the
stream, never on how the kernel happened to cut the bytes. ``up`` is towards the target, ``down`` is back.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from distributed.comm.addressing import parse_address, parse_host_port, unparse_host_port
from distributed.testing.fault_link import Direction, Directions, Link, Way
from distributed.testing.fault_stream import Cut, Faults, Script

__all__ = ["FaultProxy", "Faults", "Script"]


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
        self._links: set[Link] = set()
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
        link = Link(number, near, far, self.script.for_connection(number), self.seed)
        if self._stalled is not None:
            for way in link.ways(self._stalled):
                way.stalled = True
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
            for direction, way in (("up", link.up), ("down", link.down)):
                for i, n in enumerate(way.counts()):
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
        return self._ended[direction][i] + sum(link.ways(direction)[0].counts()[i] for link in self._links)

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
            link.cut(Cut(reset=True))

    def close_links(self) -> None:
        """End every link in order, as if each end had closed it."""
        for link in list(self._links):
            link.cut(Cut(reset=False))

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

    def _each_way(self, direction: Directions, change: Callable[[Way], None]) -> None:
        for link in self._links:
            for way in link.ways(direction):
                change(way)
                way.notify()
