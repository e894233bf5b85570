"""The one way in and the one way out: ``listen(address, on_comm)`` and ``connect(address)``, whatever the transport.

``connect`` takes the shortest way there: within this process to its own listener, on this machine through the unix
twin, else as the address says. A transport of this house is an entry of :data:`transports` and fills the port of
:mod:`distributed.comm.transport`; one of another package is an entry of :data:`backends`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import functools
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from distributed.base import settings
from distributed.base.errors import CommClosedError, FatalCommClosedError, HandshakeRefused
from distributed.comm import addressing, foreign, secrets, tcp, unix
from distributed.comm.accepting import encrypt_to_listener, greet_listener, handshake_deadline, open_comm
from distributed.comm.backends import Backend, backends, find_backend
from distributed.comm.encrypted import EncryptedStream, encrypt
from distributed.comm.inproc import InprocListener, doors
from distributed.comm.keys import CERTIFIED, Secret
from distributed.comm.offers import our_offer
from distributed.comm.transport import Comm, Listener, OnComm

DEFAULT_TIMEOUT_S = 30.0
# A listener that is flooded may show us out in the middle of the handshake; then we try again for so long.
_SHOWN_OUT_S = 3.0


@dataclass
class Visit:
    """What a connect attempt needs to know, whatever the transport."""

    address: str
    location: str
    role: str
    find_secret: Callable[[bytes], Secret | None]
    deadline: float
    shortcuts: bool
    security: Any = None

    def handshake_s(self) -> float:
        return max(0.01, min(handshake_deadline(), self.deadline - asyncio.get_running_loop().time()))


@dataclass(frozen=True)
class Transport:
    """One way to carry messages: how to connect, how to listen."""

    connect: Callable[[Visit], Awaitable[Comm]]
    listener: Callable[..., Listener]


async def _connect_inproc(visit: Visit) -> Comm:
    door = doors.find(visit.address)
    if door is None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody in this process listens at {visit.address}")
    return door.connect(visit.role)


async def _greet(sock: Any, visit: Visit, local: str, peer: str) -> Comm:
    # Over a unix socket the peer's address may be the tcp one that led there; what counts is the socket.
    offer = our_offer(peer if local.startswith(("tcp://", "tls://")) else local)
    machine = await greet_listener(sock, visit.address, visit.role, visit.find_secret, visit.handshake_s(), offer)
    if local.startswith("tcp://"):
        sock = await encrypt_to_listener(sock, peer, machine, visit.handshake_s())
    return open_comm(sock, local, peer, machine)


async def _connect_unix(visit: Visit) -> Comm:
    if visit.shortcuts:
        door = doors.find(visit.address)
        if door is not None:
            return door.connect(visit.role)
    sock = await unix.connect_socket(visit.location)
    return await _greet(sock, visit, "unix://", visit.address)


async def _connect_tcp(visit: Visit) -> Comm:
    host, port = addressing.parse_host_port(visit.location)
    if visit.shortcuts:
        door = tcp.find_door(host, port)
        if door is not None:
            return door.connect(visit.role)
        ip = "127.0.0.1" if host in ("", "localhost") else host
        path = unix.find_twin(ip, port) if unix.supported() and addressing.is_own_ip(ip) else None
        if path is not None:
            try:
                sock = await unix.connect_socket(path)
            except OSError:
                pass  # left behind by a listener that was killed
            else:
                return await _greet(sock, visit, "unix://", visit.address)
    sock = await tcp.connect_socket(host, port)
    try:
        local, peer = tcp.addresses_of(sock)
    except OSError:
        sock.close()
        raise
    return await _greet(sock, visit, local, peer)


async def _connect_tls(visit: Visit) -> Comm:
    """``tls://``: the certificates of a ``Security`` at both ends, before anything else is said."""
    host, port = addressing.parse_host_port(visit.location)
    if visit.shortcuts:
        door = tcp.find_door(host, port, "tls")
        if door is not None:
            return door.connect(visit.role)
    args = foreign.security_args(visit.security, visit.role, listening=False)
    if args["ssl_context"] is None:
        raise TypeError(
            f"{visit.address} needs certificates: give security=Security(tls_ca_file=..., tls_client_cert=..., "
            "tls_client_key=...), or set distributed.comm.tls"
        )
    sock = await tcp.connect_socket(host, port)
    name = args["extra_conn_args"].get("server_hostname")
    try:
        stream = await encrypt(sock, args["ssl_context"], listening=False, server_hostname=name)
    except ssl.SSLError as error:
        raise FatalCommClosedError(f"cannot connect to {visit.address}: TLS: {error.reason or error}") from error
    local, peer = tcp.addresses_of(stream, "tls")
    certified = dataclasses.replace(visit, find_secret=lambda secret_id: CERTIFIED)
    return await _greet(stream, certified, local, peer)


async def _greet_over_lent(inner: Any, visit: Visit) -> Comm:
    """Over the socket of another package's comm. Who listens behind ``tls://`` counts on certificates alone."""
    certified = bool(inner.extra_info.get("peercert"))
    stream = inner.take_socket()

    def find_secret(secret_id: bytes) -> Secret | None:
        return CERTIFIED if certified and secret_id == CERTIFIED.id else visit.find_secret(secret_id)

    local, peer = tcp.addresses_of(stream, "tls" if type(stream) is EncryptedStream else "tcp")
    comm = await _greet(stream, dataclasses.replace(visit, find_secret=find_secret), local, peer)
    comm.local_address, comm.peer_address = inner.local_address, inner.peer_address
    return comm


def remove_traces(address: str) -> bool:
    """Remove what a listener at ``address`` has left on this machine if its process was killed; harmless otherwise.

    Returns whether nothing is left. A process that is being killed lets go of its sockets one by one: ask again.
    """
    scheme, _, location = address.partition("://")
    if scheme != "tcp" or not unix.supported():
        return True
    host, port = addressing.parse_host_port(location)
    ip = "127.0.0.1" if host in ("", "localhost") else host  # other names are not looked up: that may take seconds
    with contextlib.suppress(OSError):
        if addressing.is_own_ip(ip):
            return unix.remove_dead_twin(ip, port)
    return True


def _listen_inproc(address: str, location: str, on_comm: OnComm, role: str, secret: Secret, **options: Any) -> Listener:
    return InprocListener(address, on_comm, role)


def _listen_unix(address: str, location: str, on_comm: OnComm, role: str, secret: Secret, **options: Any) -> Listener:
    return unix.UnixListener(location, on_comm, role, secret)


def _listen_tcp(address: str, location: str, on_comm: OnComm, role: str, secret: Secret, **options: Any) -> Listener:
    host, port = addressing.parse_host_port(location, options.pop("default_port", 0))
    return tcp.TCPListener(host, port, on_comm, role, secret, **options)


def _listen_tls(
    address: str, location: str, on_comm: OnComm, role: str, secret: Secret, security: Any = None, **options: Any
) -> Listener:
    context = foreign.security_args(security, role, listening=True)["ssl_context"]
    if context is None:
        raise TypeError(
            f"{address} needs certificates: give security=Security(tls_ca_file=..., tls_{role}_cert=..., "
            f"tls_{role}_key=...) or Security.temporary(), or set distributed.comm.tls"
        )
    return _listen_tcp(address, location, on_comm, role, secret, context=context, **options)


transports: dict[str, Transport] = {
    "inproc": Transport(_connect_inproc, _listen_inproc),
    "unix": Transport(_connect_unix, _listen_unix),
    "tcp": Transport(_connect_tcp, _listen_tcp),
    "tls": Transport(_connect_tls, _listen_tls),
}


def _foreign_transport(scheme: str, backend: Any) -> Transport:
    async def connect(visit: Visit) -> Comm:
        inner = await foreign.reach(backend, visit.address, visit.role, visit.security)
        if foreign.lends_socket(inner):
            return await _greet_over_lent(inner, visit)
        return await foreign.greet(inner, visit.address, visit.role, visit.find_secret, visit.handshake_s())

    def listener(
        address: str, location: str, on_comm: OnComm, role: str, secret: Secret, **options: Any
    ) -> foreign.ForeignListener:
        locations = [location]
        with contextlib.suppress(ValueError):  # others than host:port are the transport's to read
            host, port = addressing.parse_host_port(location, options.get("default_port", 0))
            ports = [port, *options.get("more_ports", ())]
            locations = [addressing.unparse_host_port(host, p) for p in ports]
        return foreign.ForeignListener(backend, scheme, locations, on_comm, role, secret, options.get("security"))

    return Transport(connect, listener)


def get_transport(scheme: str) -> Transport:
    """The transport of a scheme; ``ValueError`` that lists the known ones."""
    backend = find_backend(scheme, installed=scheme not in transports)
    if backend is not None:
        return _foreign_transport(scheme, backend)
    try:
        return transports[scheme]
    except KeyError:
        known = ", ".join(sorted({*transports, *backends}))
        raise ValueError(f"no transport for the scheme {scheme!r}; there are {known}") from None


def _refuse_plain(scheme: str, address: str, security: Any) -> None:
    """Raise ``ValueError`` when certificates must be shown and the address does not ask for them.

    A transport of another package is told what is required, and answers for it.
    """
    if scheme == "tcp" and "tcp" not in backends and getattr(security, "require_encryption", False):
        raise ValueError(
            f"the Security given requires encryption by its certificates: write {address.replace('tcp', 'tls', 1)}"
        )


def listen(
    address: str,
    on_comm: OnComm,
    *,
    role: str = "worker",
    secret: Secret | None = None,
    contact_host: str | None = None,
    default_port: int = 0,
    more_ports: Sequence[int] = (),
    twin: bool = True,
    security: Any = None,
) -> Listener:
    """A listener at ``address``, not yet started.

    Parameters
    ----------
    address: ``tcp://:8786``, ``tcp://host`` (``default_port``), ``unix://`` (a path is made), ``inproc://`` (a name
        is made), ...
    on_comm: called on the loop with each authenticated Comm
    role: what this end is: client, worker, nanny or scheduler
    secret: what peers must prove to know; None: the environment's, else a new one that nobody has
    contact_host: host, or ``host:port``, to name in the contact address
    more_ports: tried in order when the port is taken
    twin: tcp also listens at a unix socket for this machine's processes
    security: the ``Security`` whose ``get_listen_args`` count for ``tls://`` and transports of other packages
    """
    scheme, location = addressing.parse_address(address)
    transport = get_transport(scheme)
    _refuse_plain(scheme, address, security)
    if secret is None:
        secret = secrets.from_environment() or Secret.new()
    options: dict[str, Any] = {}
    if scheme in backends:
        options = {"default_port": default_port, "more_ports": more_ports, "security": security}
    elif scheme in ("tcp", "tls"):
        options = {"contact_host": contact_host, "default_port": default_port, "more_ports": more_ports, "twin": twin}
        if scheme == "tls":
            options["security"] = security
    return transport.listener(addressing.unparse_address(scheme, location), location, on_comm, role, secret, **options)


def connect_timeout() -> float:
    """Seconds that a connect may take by default (setting ``comm.timeouts.connect``)."""
    return float(settings.get_seconds("distributed.comm.timeouts.connect", DEFAULT_TIMEOUT_S) or DEFAULT_TIMEOUT_S)


def _find_secret(explicit: Secret | None, address: str, secret_id: bytes) -> Secret | None:
    if explicit is not None:
        return explicit
    return secrets.lookup_by_id(secret_id, address) or secrets.lookup(address)


async def connect(
    addr: str,
    timeout: float | None = None,
    deserialize: bool = True,
    *,
    role: str = "client",
    secret: Secret | None = None,
    retry_refused_s: float = 0.0,
    shortcuts: bool = True,
    security: Any = None,
) -> Comm:
    """A comm to whoever listens at ``addr``; ``start()`` it.

    Parameters
    ----------
    timeout: seconds for all of it (default: setting ``comm.timeouts.connect``)
    deserialize: accepted for compatibility; what arrives says itself how it is opened
    secret: the cluster's; None: the one known for the address or named by the listener (see
        :mod:`distributed.comm.secrets`)
    retry_refused_s: go on for so long when nobody listens there (yet)
    shortcuts: False: go through the socket that the address names, even within this process or machine
    security: the ``Security`` whose ``get_connection_args`` count for ``tls://`` and transports of other packages

    Raises
    ------
    HandshakeRefused: the peer is no fitting one, or we are not for it; trying again is pointless
    ConnectionRefusedError: nobody listens there
    TimeoutError: no answer
    OSError: anything else that the network says, such as an unknown host
    """
    scheme, location = addressing.parse_address(addr)
    transport = get_transport(scheme)
    _refuse_plain(scheme, addr, security)
    address = addressing.unparse_address(scheme, location)
    if scheme in ("tcp", "tls") and scheme not in backends:
        addressing.parse_host_port(location)  # says what is wrong before anything is tried
    loop = asyncio.get_running_loop()
    total = connect_timeout() if timeout is None else float(timeout)
    begin = loop.time()
    deadline = begin + total
    pause = 0.01
    refused = False
    find_secret = functools.partial(_find_secret, secret, address)
    while True:
        visit = Visit(address, location, role, find_secret, deadline, shortcuts, security)
        end = deadline  # of the attempts, by what comes of this one
        try:
            # A little later than the handshake's own deadline, whose error says more.
            async with asyncio.timeout_at(deadline + 0.02):
                comm = await transport.connect(visit)
            if secret is not None:
                secrets.remember(secret)
            return comm
        except HandshakeRefused:
            # Where bytes may change on the way, a wrong one looks like a wrong secret; twice in a row it is one.
            if refused or not our_offer(address).checksums:
                raise
            refused = True
        except FatalCommClosedError:  # such as a certificate that is not trusted
            raise
        except TimeoutError as e:
            if "handshake" in str(e):
                raise
            raise TimeoutError(f"no answer from {address} within {total:g} s: the connect timed out") from None
        except CommClosedError:
            # Closed in the middle of the handshake: shown out by a crowd, or starting up, or ending.
            end = min(deadline, begin + max(_SHOWN_OUT_S, retry_refused_s))
            if loop.time() >= end:
                raise
        except OSError as e:
            end = min(deadline, begin + retry_refused_s)
            if loop.time() >= end:
                raise _told(e, address) from e
        await asyncio.sleep(min(pause, max(0.0, end - loop.time())))
        pause = min(0.2, pause * 1.6)


def _told(error: OSError, address: str) -> OSError:
    """The same kind of error, with the address in its text."""
    if isinstance(error, socket.gaierror):
        host = addressing.parse_address(address)[1]
        return OSError(error.errno, f"cannot connect to {address}: unknown host {host!r} ({error.strerror})")
    if isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
        return ConnectionRefusedError(
            errno.ECONNREFUSED, f"cannot connect to {address}: connection refused (nobody listens there)"
        )
    number = error.errno if error.errno is not None else errno.EIO
    return type(error)(number, f"cannot connect to {address}: {error.strerror or error or os.strerror(number)}")


__all__ = ["Backend", "Transport", "Visit", "backends", "connect", "connect_timeout", "get_transport", "listen"]
