"""Connections over a transport of another package (:mod:`distributed.comm.backends`).

The same handshake goes first as on every socket, then one message of the transport is one batch: a number that shows
lost or doubled ones, and the segments of the codec. A message with the number alone is the orderly end. What the
transport is slow to take waits in a queue that one task empties; another task reads.

A transport that merely opens a socket (``comm.tcp.TLS``) lends it to us, and we speak as over every socket.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from distributed.base.errors import CommClosedError, FatalCommClosedError, FrameError, HandshakeRefused
from distributed.base.log_limit import LogLimit
from distributed.comm import addressing
from distributed.comm.accepting import MAX_STRANGERS, greet_visitor, handshake_deadline
from distributed.comm.encrypted import EncryptedStream
from distributed.comm.handshake import MAX_FRAME, InitiatorHandshake, ListenerHandshake
from distributed.comm.keys import Secret
from distributed.comm.security import Security
from distributed.comm.sockets import HIGH_WATER, LOW_WATER, max_frame_bytes
from distributed.comm.transport import Comm, Listener, OnBatch, OnClose, OnComm, WireCodec

logger = logging.getLogger("distributed.comm")
# How long the end that closes waits for the other one to have taken the last message.
_FAREWELL_S = 1.0


class ForeignComm(Comm):
    """A comm over another package's, whose peer is authenticated."""

    def __init__(self, inner: Any, machine: InitiatorHandshake | ListenerHandshake) -> None:
        self.local_address = inner.local_address
        self.peer_address = inner.peer_address
        self.role = machine.role
        self.peer_role = machine.peer_role
        self.secret_id = machine.secret.id if machine.secret is not None else b""
        self.ended = asyncio.Event()
        self._inner = inner
        self._loop = asyncio.get_running_loop()
        self._out: deque[tuple[list[Any], int]] = deque()
        self._out_bytes = 0
        self._sent = 0
        self._received = 0
        self._more = asyncio.Event()
        self._little = asyncio.Event()
        self._may_read = asyncio.Event()
        self._little.set()
        self._may_read.set()
        self._closing = False
        self._on_batch: OnBatch | None = None
        self._on_close: OnClose | None = None
        self._codec: WireCodec | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._max_bytes = max_frame_bytes()

    def start(self, on_batch: OnBatch, on_close: OnClose, codec: WireCodec) -> None:
        self._on_batch = on_batch
        self._on_close = on_close
        self._codec = codec
        if self.ended.is_set():
            self._loop.call_soon(self._tell_closed, None)
            return
        self._tasks = [self._loop.create_task(self._read_all()), self._loop.create_task(self._write_all())]

    # --- receiving

    async def _read_all(self) -> None:
        try:
            while not self.ended.is_set():
                if not self._closing:
                    await self._may_read.wait()
                message = await self._inner.read()
                if not self._take(message):
                    self._finish(None)
        except FrameError as error:
            logger.warning(
                "Closed the connection to a %s at %s, whose bytes cannot be used: %s",
                self.peer_role,
                self.peer_address,
                error,
            )
            self._finish(error)
        except Exception as error:
            self._finish(None if self._closing else _as_closed(self, error))

    def _take(self, message: Any) -> bool:
        """Hand over a message of the transport; False: it was the last."""
        assert self._codec is not None
        buffers = _check_buffers(message, self._max_bytes)
        if int.from_bytes(buffers[0], "big") != self._received or len(buffers[0]) != 8:
            raise FrameError(f"message {self._received} should come next")
        self.received_bytes += sum(len(b) for b in buffers)
        if len(buffers) == 1:
            return False
        # Values are opened in place and may be changed by tasks, so their buffers must be writable.
        segments = [memoryview(b if _writable(b) else bytearray(b)) for b in buffers[1:]]
        batch = self._codec.decode(segments)
        self._received += len(batch)
        if self._on_batch is not None and not self._closing:
            try:
                self._on_batch(batch)
            except Exception:  # a fault of ours is no reason to lose the messages behind this one
                logger.exception("Error while handling messages from %s", self.peer_address)
        return True

    # --- sending

    def send(self, batch: list[Any]) -> None:
        if self.closed:
            raise CommClosedError(f"{self!r} is closed")
        assert self._codec is not None, "start() comes before send()"
        # As bytes: a transport may keep them beyond this turn, or have a way of its own to write them down.
        segments = [s if isinstance(s, (bytes, bytearray)) else bytes(s) for s in self._codec.encode(batch)]
        self._post([self._sent.to_bytes(8, "big"), *segments])
        self._sent += len(batch)

    def _post(self, message: list[Any]) -> None:
        nbytes = sum(len(part) for part in message)
        if nbytes > self._max_bytes:
            raise ValueError(f"messages of {nbytes} bytes are too large to send at once (comm.max-frame-bytes)")
        self._out.append((message, nbytes))
        self._out_bytes += nbytes
        self.sent_bytes += nbytes
        if self._out_bytes > HIGH_WATER:
            self._little.clear()
        self._more.set()

    async def _write_all(self) -> None:
        try:
            while not (self._closing and not self._out):
                while self._out:
                    message, nbytes = self._out[0]
                    await self._inner.write(message)
                    self._out.popleft()
                    self._out_bytes -= nbytes
                    if self._out_bytes <= LOW_WATER:
                        self._little.set()
                self._more.clear()
                if not self._closing:
                    await self._more.wait()
        except Exception as error:
            self._finish(None if self._closing else _as_closed(self, error))

    @property
    def pending_bytes(self) -> int:
        return self._out_bytes

    async def drain(self) -> None:
        await self._little.wait()
        if self.ended.is_set():
            raise CommClosedError(f"{self!r} is closed")

    # --- ending

    @property
    def closed(self) -> bool:
        return self._closing or self.ended.is_set()

    async def close(self, timeout: float = 5.0) -> None:
        if self.ended.is_set():
            return
        if not self._closing:
            self._post([self._sent.to_bytes(8, "big")])
            self._closing = True
            self._may_read.set()
        if self._tasks:
            reader, writer = self._tasks
            await asyncio.wait([writer], timeout=timeout)
            # The peer answers the last message by its end; until then unread input could overtake what we sent.
            await asyncio.wait([reader], timeout=min(timeout, _FAREWELL_S))
            await _end(self._inner)
        self._finish(None)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

    def abort(self, error: BaseException | None = None) -> None:
        self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        if self.ended.is_set():
            return
        self.ended.set()
        for task in self._tasks:
            if task is not asyncio.current_task(self._loop):
                task.cancel()
        try:
            self._inner.abort()
        except Exception:
            logger.exception("Error while ending %r", self)
        self._out.clear()
        self._out_bytes = 0
        self._little.set()
        if self._on_close is not None:
            self._loop.call_soon(self._tell_closed, error)

    def _tell_closed(self, error: BaseException | None) -> None:
        on_close, self._on_close, self._on_batch = self._on_close, None, None
        if on_close is not None:
            on_close(error)

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()


def _writable(buffer: Any) -> bool:
    return not memoryview(buffer).readonly


def _check_buffers(message: Any, limit: int) -> list[Any]:
    """``message`` when it is a list of buffers, at least one and not larger than ``limit`` together."""
    if not isinstance(message, (list, tuple)) or not message:
        raise FrameError("not a message of this protocol")
    if not all(isinstance(part, (bytes, bytearray, memoryview)) for part in message):
        raise FrameError("not a message of this protocol")
    if sum(len(part) for part in message) > limit:
        raise FrameError(f"a message of more than {limit} bytes (comm.max-frame-bytes)")
    return list(message)


def _as_closed(comm: Any, error: BaseException) -> BaseException:
    if isinstance(error, CommClosedError):
        return error
    closed = CommClosedError(f"{comm!r}: {type(error).__name__}: {error}")
    closed.__cause__ = error
    return closed


# --- the handshake


async def _shake_hands(inner: Any, machine: InitiatorHandshake | ListenerHandshake) -> None:
    """Move the frames of a handshake; afterwards ``machine`` is done or has an error."""
    while True:
        if machine.outgoing:
            said = bytes(machine.outgoing)
            machine.outgoing.clear()
            await inner.write([said])
        if machine.done or machine.error is not None:
            return
        data = b"".join(_check_buffers(await inner.read(), MAX_FRAME))
        while data:
            wanted = machine.wanted
            if not wanted:
                return
            machine.feed(data[:wanted])
            data = data[wanted:]


async def _end(inner: Any) -> None:
    """Let go of a comm whose handshake has failed, so that the refusal arrives."""
    try:
        async with asyncio.timeout(_FAREWELL_S):
            closing = inner.close()
            if inspect.isawaitable(closing):
                await closing
    except Exception:
        inner.abort()


def security_args(security: Any, role: str, listening: bool) -> dict[str, Any]:
    """What the ``Security``, or the configuration, says to one who listens or connects as ``role``."""
    rules = Security() if security is None else security
    role = role if role in ("client", "scheduler") else "worker"
    args: dict[str, Any] = rules.get_listen_args(role) if listening else rules.get_connection_args(role)
    return args


async def reach(backend: Any, address: str, role: str, security: Any = None) -> Any:
    """What ``backend`` gives for the address; raises as ``comm.connect`` does."""
    location = addressing.parse_address(address)[1]
    try:
        return await backend.get_connector().connect(
            location, deserialize=True, **security_args(security, role, listening=False)
        )
    except FatalCommClosedError:
        raise
    except ssl.SSLCertVerificationError as error:
        raise FatalCommClosedError(f"cannot connect to {address}: {error}") from error
    except CommClosedError as error:  # nobody there, in the words of the transport
        raise OSError(errno.ECONNABORTED, str(error)) from error


def lends_socket(inner: Any) -> bool:
    """Whether a comm of a transport is a socket and nothing else."""
    return hasattr(inner, "take_socket")


async def greet(
    inner: Any, address: str, role: str, find_secret: Callable[[bytes], Secret | None], limit: float
) -> Comm:
    """The connecting end's handshake over a comm of a transport; raises as ``comm.connect`` does."""
    machine = InitiatorHandshake(role, find_secret)
    try:
        async with asyncio.timeout(limit):
            await _shake_hands(inner, machine)
    except TimeoutError:
        inner.abort()
        raise TimeoutError(
            f"connecting to {address} timed out: it did not answer the handshake within {limit:.3g} s"
        ) from None
    except BaseException as error:
        inner.abort()
        if isinstance(error, (OSError, EOFError)):
            raise CommClosedError(f"{address}: connection lost during the handshake: {error}") from error
        raise
    if machine.error is not None or not machine.done:
        await _end(inner)
        who = "refused by" if machine.cause == "by peer" else "cannot connect to"
        raise HandshakeRefused(f"{who} {address}: {machine.error or 'malformed handshake'}")
    return ForeignComm(inner, machine)


class ForeignListener(Listener):
    """Listens by a backend, and hands over those that have passed the handshake.

    Parameters
    ----------
    locations: tried in order when an address is in use
    """

    def __init__(
        self,
        backend: Any,
        scheme: str,
        locations: Sequence[str],
        on_comm: OnComm,
        role: str,
        secret: Secret,
        security: Any = None,
    ) -> None:
        self._backend = backend
        self._locations = locations
        self._on_comm = on_comm
        self._role = role
        self._secrets: tuple[Secret, ...] = (secret,)
        self._args = security_args(security, role, listening=True)
        self._inner: Any = None
        self._strangers: dict[Any, None] = {}
        self._log = LogLimit(logger)
        self.listen_address = self.contact_address = addressing.unparse_address(scheme, locations[0])

    async def start(self) -> None:
        if self._inner is not None:
            return
        handle: Callable[[Any], Awaitable[None]] = self._serve
        for location in self._locations:
            inner = self._backend.get_listener(location, handle, True, **self._args)
            try:
                await inner.start()
            except OSError as error:
                if error.errno != errno.EADDRINUSE or location == self._locations[-1]:
                    raise
            else:
                break
        self._inner = inner
        self.listen_address = inner.listen_address
        self.contact_address = inner.contact_address

    def accept_secrets(self, *secrets: Secret) -> None:
        self._secrets = secrets

    def stop(self) -> None:
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.stop()
            for stranger in list(self._strangers):
                stranger.abort()

    async def _serve(self, inner: Any) -> None:
        """Authenticate one connection and stay until it is closed: some transports end it when we return."""
        while len(self._strangers) >= MAX_STRANGERS:  # as many as on a socket; the oldest makes room
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.abort()
        self._strangers[inner] = None
        comm: Comm | None = None
        try:
            comm = await self._greet(inner)
            if comm is not None:
                self._on_comm(comm)
        except Exception:
            logger.exception("Error while taking in a connection from %s", inner.peer_address)
            inner.abort()
            return
        finally:
            self._strangers.pop(inner, None)
        if isinstance(comm, ForeignComm):
            await comm.ended.wait()

    async def _greet(self, inner: Any) -> Comm | None:
        if lends_socket(inner):
            return await self._greet_over_lent(inner)
        machine = ListenerHandshake(self._role, self._secrets)
        limit = handshake_deadline()
        problem: BaseException | None = None
        try:
            async with asyncio.timeout(limit):
                await _shake_hands(inner, machine)
            problem = machine.error
        except TimeoutError:
            problem = TimeoutError(f"no handshake within {limit:g} s")
        except (OSError, EOFError) as error:
            if isinstance(error, FrameError):
                problem = error
            else:
                inner.abort()
                return None
        if problem is None and machine.done and self._inner is not None:
            return ForeignComm(inner, machine)
        self._refused(inner, problem or "not listening")
        await _end(inner)
        return None

    async def _greet_over_lent(self, inner: Any) -> Comm | None:
        stream = inner.take_socket()
        scheme = "tls" if type(stream) is EncryptedStream else "tcp"
        local, peer = (
            f"{scheme}://{addressing.parse_address(a)[1]}" for a in (inner.local_address, inner.peer_address)
        )
        try:
            return await greet_visitor(stream, local, peer, self._role, self._secrets)
        except (OSError, EOFError) as error:
            self._refused(inner, error)
            return None

    def _refused(self, inner: Any, why: Any) -> None:
        peer = str(inner.peer_address)
        self._log.warn(peer.rpartition(":")[0], "Refused a connection from %s: %s", peer, why)
