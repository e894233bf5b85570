"""Within one process: messages are handed over as the objects they are, between any two event loops, in order.

A pair of :class:`InprocComm` share nothing but two inboxes. ``send`` appends to the peer's inbox and wakes the peer's
loop once, however many batches follow; there is no handshake, because whoever is in the process has everything
already. Between two ends on one loop ``send`` hands the batch over at once, unless that is what the loop is doing
already: what is sent meanwhile waits for the next turn, so that nobody is called amid a call of the other. A message
that went through must not be changed afterwards by either side.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from typing import Any, ClassVar

from distributed.base.errors import CommClosedError
from distributed.comm.addressing import new_inproc_address
from distributed.comm.transport import Comm, Listener, OnBatch, OnClose, OnComm, WireCodec

# A batch under way counts as so many bytes a message: what drain() waits for is that the peer keeps up, not memory.
_BYTES_A_MESSAGE = 64
_HIGH_WATER = 1 << 20
_LOW_WATER = 1 << 18


class Turn:
    """Whether a batch is being handed over on a loop just now."""

    __slots__ = ("busy",)

    def __init__(self) -> None:
        self.busy = False


_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Turn] = weakref.WeakKeyDictionary()


class InprocComm(Comm):
    """One end of a link between two loops of this process (or within one loop)."""

    same_process: ClassVar[bool] = True

    def __init__(self, loop: asyncio.AbstractEventLoop, local: str, peer: str, role: str, peer_role: str) -> None:
        self.local_address = local
        self.peer_address = peer
        self.role = role
        self.peer_role = peer_role
        self._loop = loop
        self._peer: InprocComm | None = None
        self._same_loop = False
        self._turn: Turn | None = None
        self._inbox: deque[list[Any]] = deque()
        self._inbox_count = 0
        self._woken = False
        self._paused = False
        self._on_batch: OnBatch | None = None
        self._on_close: OnClose | None = None
        self._closed = False
        self._close_told = False
        self._drain_waiter: asyncio.Future[None] | None = None

    @staticmethod
    def pair(
        loop_a: asyncio.AbstractEventLoop,
        loop_b: asyncio.AbstractEventLoop,
        address_a: str = "",
        address_b: str = "",
        role_a: str = "",
        role_b: str = "",
    ) -> tuple[InprocComm, InprocComm]:
        """Two connected ends: ``a`` on ``loop_a``, ``b`` on ``loop_b``."""
        address_a = address_a or new_inproc_address()
        a = InprocComm(loop_a, address_a, address_b, role_a, role_b)
        b = InprocComm(loop_b, address_b, address_a, role_b, role_a)
        a._peer, b._peer = b, a
        a._same_loop = b._same_loop = loop_a is loop_b
        if a._same_loop:
            a._turn = b._turn = _turns.setdefault(loop_a, Turn())
        return a, b

    def start(self, on_batch: OnBatch, on_close: OnClose, codec: WireCodec) -> None:
        self._on_batch = on_batch
        self._on_close = on_close
        if self._inbox:
            self._wake()
        if self._closed:
            self._tell_closed(None)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def pending_bytes(self) -> int:
        peer = self._peer
        return 0 if peer is None else peer._inbox_count * _BYTES_A_MESSAGE

    def send(self, batch: list[Any]) -> None:
        peer = self._peer
        if self._closed or peer is None or peer._closed:
            raise CommClosedError(f"{self!r} is closed")
        self.sent_bytes += len(batch) * _BYTES_A_MESSAGE
        turn = self._turn
        if turn is not None and not turn.busy and not peer._inbox and not peer._paused and peer._on_batch is not None:
            turn.busy = True
            try:
                peer._on_batch(batch)
            finally:
                turn.busy = False
            return
        peer._inbox.append(batch)
        peer._inbox_count += len(batch)
        # The order "append, then look at the flag" here and "clear the flag, then pop" in _deliver leaves no gap.
        if not peer._woken:
            try:
                peer._wake()
            except RuntimeError:  # the peer's loop is closed, so nobody is there
                self.abort()
                raise CommClosedError(f"{self!r}: the event loop of the peer is closed") from None

    def _wake(self) -> None:
        """From any thread: have ``_deliver`` run on our loop."""
        self._woken = True
        if self._same_loop:
            self._loop.call_soon(self._deliver)
        else:
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        on_batch = self._on_batch
        if on_batch is None or self._paused:
            return
        inbox = self._inbox
        # What arrives while we deliver waits for the next turn, so that two chatting ends cannot starve the loop.
        turn = self._turn
        if turn is not None:
            turn.busy = True
        try:
            for _ in range(len(inbox)):
                if self._paused or not inbox:
                    break
                batch = inbox.popleft()
                self._inbox_count -= len(batch)
                on_batch(batch)
        finally:
            if turn is not None:
                turn.busy = False
        if inbox and not self._woken and not self._paused:
            self._wake()
        peer = self._peer
        if peer is not None and peer._drain_waiter is not None:
            peer._post(peer._wake_drain)
        if peer is None and not inbox:
            self._tell_closed(None)

    def _post(self, callback: Any, *args: Any) -> None:
        try:
            if self._same_loop:
                self._loop.call_soon(callback, *args)
            else:
                self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            pass

    def _wake_drain(self) -> None:
        waiter = self._drain_waiter
        if waiter is not None and not waiter.done() and (self._closed or self.pending_bytes <= _LOW_WATER):
            waiter.set_result(None)
            self._drain_waiter = None

    async def drain(self) -> None:
        if self.pending_bytes > _HIGH_WATER and not self._closed:
            if self._drain_waiter is None:
                self._drain_waiter = self._loop.create_future()
            await asyncio.shield(self._drain_waiter)
        if self._closed:
            raise CommClosedError(f"{self!r} is closed")

    async def close(self, timeout: float = 5.0) -> None:
        self.abort()

    def abort(self, error: BaseException | None = None) -> None:
        if self._closed:
            return
        self._closed = True
        peer, self._peer = self._peer, None
        self._inbox.clear()
        self._inbox_count = 0
        self._post(self._tell_closed, error)
        if peer is not None:
            # What we sent before is delivered first: the peer's loop runs its callbacks in the order they were posted.
            peer._post(peer._peer_gone)

    def _peer_gone(self) -> None:
        self._peer = None
        if self._closed:
            return
        self._closed = True
        if not self._inbox and self._on_batch is not None:
            self._tell_closed(None)
        # else: _deliver tells once the inbox is empty, or start() is still to come

    def _tell_closed(self, error: BaseException | None) -> None:
        waiter, self._drain_waiter = self._drain_waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self._on_close is not None and not self._close_told:
            self._close_told = True
            on_close, self._on_close, self._on_batch = self._on_close, None, None
            on_close(error)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            if self._inbox or self._peer is None:
                self._wake()


class Doors:
    """The listeners of this process by address, whatever their transport: where a connect from within finds them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_address: weakref.WeakValueDictionary[str, Door] = weakref.WeakValueDictionary()

    def add(self, address: str, door: Door) -> None:
        with self._lock:
            self._by_address[address] = door

    def discard(self, address: str, door: Door) -> None:
        with self._lock:
            if self._by_address.get(address) is door:
                del self._by_address[address]

    def find(self, address: str) -> Door | None:
        return self._by_address.get(address)

    def forget_all(self) -> None:
        """In a forked child: the listeners, and the threads of their loops, stayed in the parent."""
        self._lock = threading.Lock()
        self._by_address.clear()


class Door:
    """A listener's loop and callback, for connections from within the process."""

    def __init__(self, address: str, on_comm: OnComm, role: str, loop: asyncio.AbstractEventLoop) -> None:
        self.address = address
        self.on_comm = on_comm
        self.role = role
        self.loop = loop
        self.open = True

    def _enter(self, comm: InprocComm) -> None:
        if self.open:
            self.on_comm(comm)
        else:
            comm.abort()

    def connect(self, role: str) -> InprocComm:
        """A comm to this listener, for the running loop. Raises CommClosedError when the listener's loop is gone."""
        loop = asyncio.get_running_loop()
        if not self.open or self.loop.is_closed():
            raise CommClosedError(f"nobody listens at {self.address} any more")
        ours, theirs = InprocComm.pair(loop, self.loop, "", self.address, role, self.role)
        try:
            if loop is self.loop:
                loop.call_soon(self._enter, theirs)
            else:
                self.loop.call_soon_threadsafe(self._enter, theirs)
        except RuntimeError:
            raise CommClosedError(f"the event loop of {self.address} is closed") from None
        return ours


doors = Doors()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=doors.forget_all)


class InprocListener(Listener):
    """``inproc://``: reachable from this process only."""

    def __init__(self, address: str, on_comm: OnComm, role: str) -> None:
        self.listen_address = self.contact_address = address if address != "inproc://" else new_inproc_address()
        self._on_comm = on_comm
        self._role = role
        self._door: Door | None = None

    async def start(self) -> None:
        if self._door is not None:
            return
        if doors.find(self.listen_address) is not None:
            raise OSError(f"address already in use: {self.listen_address}")
        self._door = Door(self.listen_address, self._on_comm, self._role, asyncio.get_running_loop())
        doors.add(self.listen_address, self._door)

    def stop(self) -> None:
        door, self._door = self._door, None
        if door is not None:
            door.open = False
            doors.discard(self.listen_address, door)
