"""Getting from a fresh socket to an authenticated comm: the accept loop, the handshake's deadline, the limit on
strangers.

A stranger costs a file descriptor, a few hundred bytes and a timer until it has proved that it knows the secret. At
most ``MAX_STRANGERS`` are kept a listener; when more come, those that have been silent longest make room, so that an
authenticated peer gets in past any number of silent connections. The same is done when file descriptors run out.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

from distributed.base import settings
from distributed.base.errors import CommClosedError, FatalCommClosedError, FrameError, HandshakeRefused
from distributed.base.log_limit import LogLimit
from distributed.comm import addressing
from distributed.comm.accept_loop import AcceptLoop
from distributed.comm.certificates import own_certificate, pinning_context
from distributed.comm.encrypted import EncryptedStream, TLSComm, encrypt, fingerprint_of, readable
from distributed.comm.handshake import (
    DEADLINE_S,
    NO_CERTIFICATE,
    NOTHING,
    InitiatorHandshake,
    ListenerHandshake,
    Offer,
)
from distributed.comm.keys import Secret
from distributed.comm.offers import agreed_checksums, agreed_compression, must_encrypt, our_offer, wants_certificate
from distributed.comm.sockets import SocketComm
from distributed.comm.transport import OnComm

logger = logging.getLogger("distributed.comm")

MAX_STRANGERS = 128
MAX_STRANGERS_OF_A_HOST = 8
# A stranger may be shown out for a newcomer only after so much silence.
_PATIENCE_S = 0.05
AddressOf = Callable[[Any], tuple[str, str]]


def handshake_deadline() -> float:
    """Seconds that a handshake may take (setting ``comm.handshake-timeout``)."""
    return float(settings.get_seconds("distributed.comm.handshake-timeout", DEADLINE_S) or DEADLINE_S)


class HandshakeRun:
    """Moves the bytes of one handshake between its machine and a socket; then calls ``on_done`` with the error or
    None."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: Any,
        machine: InitiatorHandshake | ListenerHandshake,
        on_done: Callable[[HandshakeRun, BaseException | None], None],
        deadline_s: float,
    ) -> None:
        self.loop = loop
        self.sock = sock
        self.host = ""
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
        self._read_once()
        # Within TLS the rest of what has come is not the loop's to see.
        while type(self.sock) is EncryptedStream and self._on_done is not None and self.sock.pending():
            self._read_once()

    def _read_once(self) -> None:
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


def close_after_refusal(sock: Any) -> None:
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
    """One listening socket: accepts, authenticates, hands over :class:`SocketComm` objects.

    Parameters
    ----------
    secrets: what peers must prove one of; may be replaced at any time
    context: TLS begins with the connection (``tls://``), and its certificates are what counts
    """

    def __init__(
        self,
        sock: socket.socket,
        on_comm: OnComm,
        role: str,
        secrets: tuple[Secret, ...],
        addresses_of: AddressOf,
        configure: Callable[[socket.socket], None],
        name: str = "a socket",
        deadline_s: float | None = None,
        context: Any = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_comm = on_comm
        self._role = role
        self.secrets = secrets
        self._addresses_of = addresses_of
        self._configure = configure
        self._context = context
        self._deadline_s = handshake_deadline() if deadline_s is None else deadline_s
        self._strangers: OrderedDict[HandshakeRun, None] = OrderedDict()
        self._encrypting: dict[asyncio.Task[None], None] = {}
        self._log = LogLimit(logger)
        self._closed = False
        self._accepting = AcceptLoop(sock, self._greet, name, self._has_room, self._make_room)

    @property
    def n_strangers(self) -> int:
        return len(self._strangers) + len(self._encrypting)

    def _has_room(self) -> bool:
        return self.n_strangers < MAX_STRANGERS or self._make_room()

    def _make_room(self, host: str | None = None) -> bool:
        """Show out the stranger (of ``host``) that has been silent longest, if it has been for long enough."""
        moment = self._loop.time() - _PATIENCE_S
        for run in self._strangers:
            if run.last_heard > moment or (host is not None and run.host != host):
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
            local, peer = self._addresses_of(sock)
        except OSError:
            sock.close()
            return
        if self._context is None:
            self._hear(sock, peer, local)
        else:
            self._spawn(self._encrypt_first(sock, peer, local))

    def _hear(self, sock: Any, peer: str, local: str) -> None:
        """The handshake of a stranger."""
        try:
            offer = our_offer(peer)
            certificate = own_certificate() if offer.encryption or wants_certificate(peer, local) else None
            fingerprint = NO_CERTIFICATE if certificate is None else certificate.fingerprint
            machine = ListenerHandshake(self._role, self.secrets, offer=offer, fingerprint=fingerprint)
            run = HandshakeRun(self._loop, sock, machine, self._greeted, self._deadline_s)
        except OSError:
            sock.close()
            return
        if offer.encryption:  # of another machine
            run.host = addressing.get_address_host(peer)
            if sum(1 for other in self._strangers if other.host == run.host) >= MAX_STRANGERS_OF_A_HOST:
                self._make_room(run.host)
        self._strangers[run] = None
        # The bytes of a peer that connects in order are usually there already.
        run.on_readable()

    def _greeted(self, run: HandshakeRun, error: BaseException | None) -> None:
        self._strangers.pop(run, None)
        sock, machine = run.sock, run.machine
        if error is None and not self._closed:
            try:
                local, peer = self._addresses_of(sock)
            except OSError:
                sock.close()
                return
            if machine.encrypted:
                self._spawn(self._encrypt_now(sock, peer, local, machine))
            elif must_encrypt(peer):
                self._refuse(sock, HandshakeRefused("the connection would not be encrypted"))
            else:
                self._take_in(open_comm(sock, local, peer, machine))
            return
        if isinstance(error, (HandshakeRefused, TimeoutError)):
            self._refuse(sock, error)
        else:
            sock.close()

    def _take_in(self, comm: SocketComm) -> None:
        try:
            self._on_comm(comm)
        except Exception:
            logger.exception("Error while taking in a connection from %s", comm.peer_address)
            comm.abort()

    def _refuse(self, sock: Any, error: BaseException) -> None:
        try:
            name = self._addresses_of(sock)[1]
        except OSError:
            name = "a peer that is gone"
        host = name.rpartition(":")[0] if name.startswith(("tcp", "tls")) else name
        self._log.warn(host, "Refused a connection from %s: %s", name, error)
        close_after_refusal(sock)

    # --- encryption

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._encrypting[task] = None
        task.add_done_callback(lambda task: self._encrypting.pop(task, None))

    async def _encrypt_now(self, sock: Any, peer: str, local: str, machine: Any) -> None:
        """TLS after the handshake: the peer has proved that it knows the secret, and proves that it is still there."""
        certificate = own_certificate()
        assert certificate is not None
        stream: Any = sock
        try:
            async with asyncio.timeout(self._deadline_s):
                stream = await encrypt(sock, certificate.context, listening=True)
                said = await _read_exactly(stream, len(machine.confirmation))
            if not hmac.compare_digest(said, machine.confirmation):
                raise FrameError("whoever speaks inside of TLS is not who was let in")
        except (OSError, EOFError, TimeoutError) as error:
            self._log.warn(peer.rpartition(":")[0], "Refused a connection from %s: TLS failed: %s", peer, error)
            stream.close()
            return
        except BaseException:
            stream.close()
            raise
        self._take_in(open_comm(stream, local, peer, machine))

    async def _encrypt_first(self, sock: Any, peer: str, local: str) -> None:
        """``tls://``: certificates are shown before anything else is said."""
        try:
            async with asyncio.timeout(self._deadline_s):
                stream = await encrypt(sock, self._context, listening=True)
        except (OSError, EOFError, TimeoutError) as error:
            text = getattr(error, "reason", None) or error or "no TLS within the time"
            self._log.warn(peer.rpartition(":")[0], "Refused a connection from %s: TLS failed: %s", peer, text)
            sock.close()
            return
        self._hear(stream, peer, local)

    def close(self) -> None:
        """Stop accepting; whoever is in the middle of a handshake is dropped. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._accepting.close()
        for run in list(self._strangers):
            run.end(EOFError("the listener closes"))
        for task in list(self._encrypting):
            task.cancel()


async def _read_exactly(stream: EncryptedStream, nbytes: int) -> bytes:
    """So many bytes and not one more. Raises EOFError when the peer ends before."""
    loop = asyncio.get_running_loop()
    got = b""
    while len(got) < nbytes:
        try:
            data = stream.recv(nbytes - len(got))
        except BlockingIOError:
            await readable(loop, stream.fileno())
            continue
        if not data:
            raise EOFError("the peer closed the connection")
        got += data
    return got


def open_comm(sock: Any, local: str, peer: str, machine: InitiatorHandshake | ListenerHandshake) -> SocketComm:
    """The comm over a socket whose handshake is done."""
    ours, theirs = machine.offer, machine.peer_offer
    encrypted = type(sock) is EncryptedStream
    kind = TLSComm if encrypted else SocketComm
    comm = kind(
        asyncio.get_running_loop(),
        sock,
        local,
        peer,
        machine.role,
        machine.peer_role,
        agreed_compression(ours, theirs),
        # TLS notices every changed byte by itself.
        not encrypted and agreed_checksums(ours, theirs),
        ours.shared_memory and theirs.shared_memory,
    )
    comm.secret_id = machine.secret.id if machine.secret is not None else b""
    return comm


async def encrypt_to_listener(sock: Any, address: str, machine: InitiatorHandshake, deadline_s: float) -> Any:
    """The connecting end's TLS after the handshake, when that was agreed; ``sock`` as it is when not.

    Raises as :func:`greet_listener` does.
    """
    if not machine.encrypted:
        if must_encrypt(address):
            sock.close()
            raise HandshakeRefused(
                f"{address} cannot encrypt, and the setting distributed.comm.require-encryption is true: install the "
                "package cryptography there"
            )
        return sock
    try:
        async with asyncio.timeout(deadline_s):
            stream = await encrypt(sock, pinning_context(), listening=False)
    except TimeoutError:
        raise TimeoutError(f"connecting to {address} timed out: no TLS handshake within {deadline_s:.3g} s") from None
    except OSError as error:
        raise CommClosedError(f"{address}: connection lost during the TLS handshake: {error}") from error
    if not hmac.compare_digest(fingerprint_of(stream), machine.fingerprint):
        stream.close()
        raise HandshakeRefused(
            f"cannot connect to {address}: the certificate is not that of the listener that knows the cluster's "
            "secret: somebody in between?"
        )
    stream.send(machine.confirmation)  # the first bytes of a connection always find room
    return stream


async def greet_listener(
    sock: Any,
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
    if isinstance(error, FrameError):  # such as an alert that our certificate is not wanted
        raise FatalCommClosedError(f"{address} does not take this connection: {error}")
    if isinstance(error, TimeoutError):
        raise TimeoutError(
            f"connecting to {address} timed out: it did not answer the handshake within {deadline_s:.3g} s"
        ) from None
    if isinstance(error, EOFError):
        raise CommClosedError(f"{address}: {error}") from None
    raise CommClosedError(f"{address}: connection lost during the handshake: {error}") from error


async def greet_visitor(sock: Any, local: str, peer: str, role: str, secrets: tuple[Secret, ...]) -> SocketComm:
    """The listening end's handshake on a socket that another transport has accepted, without encryption of ours.

    Raises HandshakeRefused, TimeoutError, OSError or EOFError; the socket is closed then.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[BaseException | None] = loop.create_future()
    machine = ListenerHandshake(role, secrets, offer=dataclasses.replace(our_offer(peer), encryption=False))
    run = HandshakeRun(loop, sock, machine, lambda run, error: outcome.set_result(error), handshake_deadline())
    try:
        run.on_readable()
        error = await outcome
        if error is None and must_encrypt(peer) and type(sock) is not EncryptedStream:
            error = HandshakeRefused("the connection would not be encrypted")
    except BaseException:
        run.end(None)
        sock.close()
        raise
    if error is None:
        return open_comm(sock, local, peer, machine)
    close_after_refusal(sock)
    raise error


__all__ = [
    "MAX_STRANGERS",
    "Acceptor",
    "HandshakeRun",
    "greet_listener",
    "greet_visitor",
    "handshake_deadline",
    "open_comm",
]
