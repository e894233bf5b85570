"""Getting from a fresh socket to an authenticated comm: the accept loop, the handshake's deadline, the limit on
strangers.

A stranger costs a file descriptor, a few hundred bytes and a timer until it has proved that it knows the secret. At
most ``MAX_STRANGERS`` are kept a listener; when more come, those that have been silent longest make room, so that an
authenticated peer gets in past any number of silent connections. The same is done when file descriptors run out.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from distributed.base import settings
from distributed.base.errors import CommClosedError, HandshakeRefused
from distributed.base.log_limit import LogLimit
from distributed.comm.accept_loop import AcceptLoop
from distributed.comm.handshake import (
    DEADLINE_S,
    NOTHING,
    InitiatorHandshake,
    ListenerHandshake,
    Offer,
)
from distributed.comm.offers import agreed_checksums, agreed_compression, our_offer
from distributed.comm.secrets import Secret
from distributed.comm.sockets import SocketComm
from distributed.comm.transport import OnComm

logger = logging.getLogger("distributed.comm")

MAX_STRANGERS = 128
# A stranger may be shown out for a newcomer only after so much silence.
_PATIENCE_S = 0.05
AddressOf = Callable[[socket.socket], tuple[str, str]]


def handshake_deadline() -> float:
    """Seconds that a handshake may take (setting ``comm.handshake-timeout``)."""
    return float(settings.get_seconds("distributed.comm.handshake-timeout", DEADLINE_S) or DEADLINE_S)


class HandshakeRun:
    """Moves the bytes of one handshake between its machine and a socket; then calls ``on_done`` with the error or
    None."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        machine: InitiatorHandshake | ListenerHandshake,
        on_done: Callable[[HandshakeRun, BaseException | None], None],
        deadline_s: float,
    ) -> None:
        self.loop = loop
        self.sock = sock
        self.machine = machine
        self.last_heard = loop.time()
        self._on_done: Callable[[HandshakeRun, BaseException | None], None] | None = on_done
        self._timer = loop.call_later(deadline_s, self._late, deadline_s)
        loop.add_reader(sock.fileno(), self.on_readable)

    def begin(self) -> None:
        self._send()

    def _send(self) -> None:
        out = self.machine.outgoing
        if not out:
            return
        # A few hundred bytes always fit into the buffer of a socket that is new; if not, the peer is up to no good.
        try:
            sent = self.sock.send(out)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as e:
            self.end(e)
            return
        if sent != len(out):
            self.end(CommClosedError("the peer does not read"))
            return
        out.clear()

    def on_readable(self) -> None:
        machine = self.machine
        try:
            data = self.sock.recv(machine.wanted)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as e:
            self.end(e)
            return
        if not data:
            self.end(EOFError(describe_silence(machine.received)))
            return
        self.last_heard = self.loop.time()
        machine.feed(data)
        self._send()
        if self._on_done is not None and (machine.error is not None or machine.done):
            self.end(machine.error)

    def silent_since(self, moment: float) -> bool:
        """Whether nothing has come since, not even bytes that still wait in the kernel."""
        if self.last_heard > moment:
            return False
        try:
            return not self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return True

    def _late(self, deadline_s: float) -> None:
        machine = self.machine
        if isinstance(machine, ListenerHandshake):
            machine.refuse(f"no handshake within {deadline_s:g} s", "silent")
            self._send()
        self.end(TimeoutError(f"no handshake within {deadline_s:g} s"))

    def end(self, error: BaseException | None) -> None:
        on_done, self._on_done = self._on_done, None
        if on_done is None:
            return
        self._timer.cancel()
        self.loop.remove_reader(self.sock.fileno())
        on_done(self, error)


def describe_silence(received: int) -> str:
    return "the peer closed the connection " + ("during" if received else "before") + " the handshake"


def close_after_refusal(sock: socket.socket) -> None:
    """Close so that the refusal just sent arrives: unread input would turn the end into a reset that overtakes it."""
    try:
        sock.shutdown(socket.SHUT_WR)
        for _ in range(16):
            if not sock.recv(65536):
                break
    except OSError:
        pass
    sock.close()


class Acceptor:
    """One listening socket: accepts, authenticates, hands over :class:`SocketComm` objects."""

    def __init__(
        self,
        sock: socket.socket,
        on_comm: OnComm,
        role: str,
        secret: Secret,
        addresses_of: AddressOf,
        configure: Callable[[socket.socket], None],
        name: str = "a socket",
        deadline_s: float | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_comm = on_comm
        self._role = role
        self._secret = secret
        self._addresses_of = addresses_of
        self._configure = configure
        self._deadline_s = handshake_deadline() if deadline_s is None else deadline_s
        self._strangers: OrderedDict[HandshakeRun, None] = OrderedDict()
        self._log = LogLimit(logger)
        self._closed = False
        self._accepting = AcceptLoop(sock, self._greet, name, self._has_room, self._make_room)

    @property
    def n_strangers(self) -> int:
        return len(self._strangers)

    def _has_room(self) -> bool:
        return len(self._strangers) < MAX_STRANGERS or self._make_room()

    def _make_room(self) -> bool:
        """Show out the stranger that has been silent longest, if it has been for long enough."""
        moment = self._loop.time() - _PATIENCE_S
        for run in self._strangers:
            if run.last_heard > moment:
                continue
            if run.silent_since(moment):
                self._log.warn("strangers", "Too many connections without a handshake: the oldest are closed")
                run.end(EOFError("made room for others"))
                return True
        return False

    def _greet(self, sock: socket.socket, address: Any) -> None:
        try:
            sock.setblocking(False)
            self._configure(sock)
            offer = our_offer(self._addresses_of(sock)[1])
            machine = ListenerHandshake(self._role, self._secret, offer=offer)
            run = HandshakeRun(self._loop, sock, machine, self._greeted, self._deadline_s)
        except OSError:
            sock.close()
            return
        self._strangers[run] = None
        # The bytes of a peer that connects in order are usually there already.
        run.on_readable()

    def _greeted(self, run: HandshakeRun, error: BaseException | None) -> None:
        self._strangers.pop(run, None)
        sock = run.sock
        if error is None and not self._closed:
            try:
                local, peer = self._addresses_of(sock)
            except OSError:
                sock.close()
                return
            comm = open_comm(sock, local, peer, run.machine)
            try:
                self._on_comm(comm)
            except Exception:
                logger.exception("Error while taking in a connection from %s", peer)
                comm.abort()
            return
        if isinstance(error, (HandshakeRefused, TimeoutError)):
            try:
                name = self._addresses_of(sock)[1]
            except OSError:
                name = "a peer that is gone"
            host = name.rpartition(":")[0] if name.startswith("tcp") else name
            self._log.warn(host, "Refused a connection from %s: %s", name, error)
            close_after_refusal(sock)
        else:
            sock.close()

    def close(self) -> None:
        """Stop accepting; whoever is in the middle of a handshake is dropped. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._accepting.close()
        for run in list(self._strangers):
            run.end(EOFError("the listener closes"))


def open_comm(
    sock: socket.socket, local: str, peer: str, machine: InitiatorHandshake | ListenerHandshake
) -> SocketComm:
    """The comm over a socket whose handshake is done."""
    ours, theirs = machine.offer, machine.peer_offer
    return SocketComm(
        asyncio.get_running_loop(),
        sock,
        local,
        peer,
        machine.role,
        machine.peer_role,
        agreed_compression(ours, theirs),
        agreed_checksums(ours, theirs),
        ours.shared_memory and theirs.shared_memory,
    )


async def greet_listener(
    sock: socket.socket,
    address: str,
    role: str,
    find_secret: Callable[[bytes], Secret | None],
    deadline_s: float,
    offer: Offer = NOTHING,
) -> InitiatorHandshake:
    """The connecting end's handshake on a connected socket. Returns its machine, which knows what was agreed.

    Raises HandshakeRefused when trying again is pointless, ``CommClosedError`` when the peer went away, TimeoutError
    when it stayed silent. The socket is closed in each of these cases.
    """
    loop = asyncio.get_running_loop()
    machine = InitiatorHandshake(role, find_secret, offer)
    outcome: asyncio.Future[BaseException | None] = loop.create_future()

    def on_done(run: HandshakeRun, error: BaseException | None) -> None:
        if not outcome.done():
            outcome.set_result(error)

    run = HandshakeRun(loop, sock, machine, on_done, deadline_s)
    error: BaseException | None = None
    try:
        run.begin()
        error = await outcome
    except BaseException:
        run.end(EOFError("cancelled"))
        sock.close()
        raise
    if error is None:
        return machine
    if isinstance(error, HandshakeRefused):
        close_after_refusal(sock)
        who = "refused by" if machine.cause == "by peer" else "cannot connect to"
        raise HandshakeRefused(f"{who} {address}: {error}") from None
    sock.close()
    if isinstance(error, TimeoutError):
        raise TimeoutError(
            f"connecting to {address} timed out: it did not answer the handshake within {deadline_s:.3g} s"
        ) from None
    if isinstance(error, EOFError):
        raise CommClosedError(f"{address}: {error}") from None
    raise CommClosedError(f"{address}: connection lost during the handshake: {error}") from error


__all__ = ["MAX_STRANGERS", "Acceptor", "HandshakeRun", "greet_listener", "handshake_deadline", "open_comm"]
