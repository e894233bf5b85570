"""``tcp://host:port``: listening, connecting, socket options; and the unix twin by which this machine's processes
come in.

A tcp listener also listens at a unix socket in this user's runtime directory (when there is one), under a name made
from its host and port. Whoever connects to the tcp address on the same machine finds it there, which is faster;
nobody needs to know.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import os
import socket
from collections.abc import Sequence
from typing import Any

from distributed.base import settings
from distributed.base.errors import InsecureListenError
from distributed.base.lazy import lazy_names
from distributed.comm import addressing, unix
from distributed.comm.accepting import Acceptor
from distributed.comm.certificates import own_certificate
from distributed.comm.inproc import Door, doors
from distributed.comm.keys import CERTIFIED, Secret
from distributed.comm.offers import wants_certificate
from distributed.comm.port_holder import describe_holder
from distributed.comm.transport import Listener, OnComm

logger = logging.getLogger("distributed.comm")

_DEFAULT_BACKLOG = 2048
# What other packages take from here to carry messages over tornado streams of theirs.
_STREAMS = "distributed.comm.tornado_streams"
__getattr__, __dir__ = lazy_names(
    __name__,
    dict.fromkeys(("MAX_BUFFER_SIZE", "TCP", "TLS", "convert_stream_closed_error", "get_stream_address"), _STREAMS),
)


def configure(sock: socket.socket) -> None:
    """Socket options of a connection: no Nagle delay, and a dead peer is noticed (setting ``comm.timeouts.tcp``)."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    timeout_s = max(4.0, dead_peer_timeout())
    idle, interval, count = max(1, int(timeout_s // 4)), max(1, int(timeout_s // 8)), 6
    for name, value in (("TCP_KEEPIDLE", idle), ("TCP_KEEPINTVL", interval), ("TCP_KEEPCNT", count)):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, int(timeout_s * 1000))


def dead_peer_timeout() -> float:
    return float(settings.get_seconds("distributed.comm.timeouts.tcp", "30s"))


def socket_address(name: tuple[str, int] | tuple[str, int, int, int], scheme: str = "tcp") -> str:
    return f"{scheme}://{addressing.unparse_host_port(name[0].partition('%')[0], name[1])}"


def addresses_of(sock: Any, scheme: str = "tcp") -> tuple[str, str]:
    """(local, peer) of a connected socket."""
    return socket_address(sock.getsockname(), scheme), socket_address(sock.getpeername(), scheme)


async def _refuse_open(host: str, address: str) -> None:
    """Raise PermissionError when everybody could come in from elsewhere, and that was not spelled out."""
    found = [] if addressing.is_wildcard(host) else await resolve(host, 0, passive=True)
    if found and all(addressing.is_loopback(str(where[0])) for _, where in found):
        return
    if not settings.get("distributed.auth.insecure-listen", False):
        raise InsecureListenError(
            errno.EPERM,
            f"{address} without authentication would let everybody who reaches this machine run code here. Listen at "
            "127.0.0.1, or turn authentication on (distributed.auth.required), or say that you mean it: "
            "--insecure-listen, or set distributed.auth.insecure-listen (DASK_DISTRIBUTED__AUTH__INSECURE_LISTEN=True)",
        )
    logger.warning(
        "Listening at %s WITHOUT authentication: everybody who reaches it can run code as this user", address
    )


async def resolve(host: str, port: int, passive: bool = False) -> list[tuple[int, tuple[str, int]]]:
    """(family, address) to try, in order. Names are looked up off the loop; ip addresses and localhost are not."""
    if host in ("", "localhost"):
        if not passive:
            return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))]
        if host:
            return [(socket.AF_INET, ("127.0.0.1", port))]
        return [(socket.AF_INET, ("0.0.0.0", port))]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, (host, port))]
    loop = asyncio.get_running_loop()
    flags = socket.AI_PASSIVE if passive else 0
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror as e:
        if not passive:
            raise  # who connects tells the whole address
        raise socket.gaierror(e.errno, f"cannot listen at {host!r}: unknown host ({e.strerror})") from None
    return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]


async def connect_socket(host: str, port: int) -> socket.socket:
    """A connected, configured socket. Raises OSError, for the last of the addresses tried."""
    loop = asyncio.get_running_loop()
    error: OSError | None = None
    for family, address in await resolve(host, port):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            configure(sock)
            await loop.sock_connect(sock, address)
            if sock.getsockname() == sock.getpeername():
                # A free ephemeral port may be chosen as our own source port, and we would talk to ourselves.
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        except OSError as e:
            sock.close()
            # Prefer the more telling error of the first address over "::1 refuses too".
            error = error or e
            continue
        except BaseException:
            sock.close()
            raise
        return sock
    raise error or OSError(f"no address found for {host!r}")


class TCPListener(Listener):
    """Listens at a tcp address; port 0 is any free one.

    Parameters
    ----------
    contact_host: the host, or ``host:port``, to name in ``contact_address`` instead of what was found (behind NAT, in a
        container, behind a relay)
    more_ports: tried in order when ``port`` is taken
    twin: also listen at the unix twin, when the platform and the runtime directory allow
    context: the ``ssl.SSLContext`` of ``tls://``, whose certificates are what lets peers in
    """

    def __init__(
        self,
        host: str,
        port: int,
        on_comm: OnComm,
        role: str,
        secret: Secret,
        *,
        contact_host: str | None = None,
        more_ports: Sequence[int] = (),
        twin: bool = True,
        context: Any = None,
    ) -> None:
        self._host = host
        self._port = port
        self._on_comm = on_comm
        self._role = role
        self._secrets: tuple[Secret, ...] = (secret,) if context is None else (CERTIFIED,)
        self._context = context
        self._scheme = "tcp" if context is None else "tls"
        self._contact_host = contact_host
        self._more_ports = more_ports
        self._twin_wanted = twin and context is None
        self._acceptors: list[Acceptor] = []
        self._twin: unix.UnixListener | None = None
        self._door: Door | None = None
        self._door_addresses: list[str] = []
        self.listen_address = f"{self._scheme}://{addressing.unparse_host_port(host, port)}"

    async def start(self) -> None:
        if self._acceptors:
            return
        if any(secret.is_open for secret in self._secrets):
            await _refuse_open(self._host, self.listen_address)
        socks = await self._bind()
        port = int(socks[0].getsockname()[1])
        self._port = port
        host = self._host
        self.listen_address = name = f"{self._scheme}://{addressing.unparse_host_port(host or '0.0.0.0', port)}"
        names = functools.partial(addresses_of, scheme=self._scheme)
        self._acceptors = [
            Acceptor(s, self._on_comm, self._role, self._secrets, names, configure, name, context=self._context)
            for s in socks
        ]
        if self._context is None and wants_certificate("tcp://127.0.0.1:0", socket_address(socks[0].getsockname())):
            # Made ahead of the first peer of another machine, beside what else is done at the start.
            asyncio.get_running_loop().run_in_executor(None, own_certificate)
        contact_port = port
        if self._contact_host:
            contact, contact_port = addressing.parse_host_port(self._contact_host, port)
        elif addressing.is_wildcard(host):
            contact = addressing.get_ipv6() if ":" in host else addressing.get_ip()
        else:
            contact = str(socks[0].getsockname()[0]).partition("%")[0]
        self.contact_address = f"{self._scheme}://{addressing.unparse_host_port(contact, contact_port)}"
        self._door = Door(self.contact_address, self._on_comm, self._role, asyncio.get_running_loop())
        self._door_addresses = [self.contact_address, door_name(host, port, self._scheme)]
        for address in self._door_addresses:
            doors.add(address, self._door)
        if self._twin_wanted:
            await self._start_twin(host, port)

    async def _bind(self) -> list[socket.socket]:
        ports = [self._port, *self._more_ports]
        for last in ports[:-1]:
            try:
                return await self._bind_at(last)
            except OSError as e:
                if e.errno != errno.EADDRINUSE:
                    raise
                logger.warning("%s; trying the next port", e.strerror)
        try:
            return await self._bind_at(ports[-1])
        except OSError as e:
            if e.errno == errno.EADDRINUSE:
                raise OSError(e.errno, f"{e.strerror}; choose another port, or 0 for any free one") from e.__cause__
            raise

    async def _bind_at(self, port: int) -> list[socket.socket]:
        backlog = int(settings.get("distributed.comm.socket-backlog", _DEFAULT_BACKLOG))
        found = await resolve(self._host, port, passive=True)
        socks: list[socket.socket] = []
        wanted = port
        error: OSError | None = None
        for family, address in dict.fromkeys(found):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                if os.name == "posix":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((address[0], port, *address[2:]))
                sock.listen(backlog)
            except OSError as e:
                sock.close()
                error = error or e
                continue
            port = int(sock.getsockname()[1])
            socks.append(sock)
        if not socks:
            assert error is not None
            where = f"{self._scheme}://{addressing.unparse_host_port(self._host, wanted)}"
            text = f"cannot listen at {where}: {error.strerror or error}"
            if error.errno == errno.EADDRINUSE:
                text += f"; {await asyncio.to_thread(describe_holder, wanted)}"
            raise OSError(error.errno, text) from error
        return socks

    async def _start_twin(self, host: str, port: int) -> None:
        path = unix.twin_path("any" if addressing.is_wildcard(host) else addressing.ensure_ip(host), port, make=True)
        if path is None:
            return
        twin = unix.UnixListener(path, self._on_comm, self._role, self._secrets[0])
        twin.accept_secrets(*self._secrets)
        try:
            await twin.start()
        except OSError as e:
            logger.debug("No unix twin for %s: %s", self.listen_address, e)
            return
        self._twin = twin

    def accept_secrets(self, *secrets: Secret) -> None:
        if self._context is not None:
            return
        self._secrets = secrets
        for acceptor in self._acceptors:
            acceptor.secrets = secrets
        if self._twin is not None:
            self._twin.accept_secrets(*secrets)

    def stop(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        self._acceptors = []
        if self._twin is not None:
            self._twin.stop()
            self._twin = None
        if self._door is not None:
            self._door.open = False
            for address in self._door_addresses:
                doors.discard(address, self._door)
            self._door = None


def door_name(host: str, port: int, scheme: str = "tcp") -> str:
    """The name of a listener for connects from within the process: a listener on every interface answers to each."""
    return f"{scheme}-door:{'any' if addressing.is_wildcard(host) else host}:{port}"


def find_door(host: str, port: int, scheme: str = "tcp") -> Door | None:
    """This process's own listener behind ``host:port``, if that is what the address means."""
    exact = doors.find(f"{scheme}://{addressing.unparse_host_port(host, port)}")
    exact = exact or doors.find(door_name(host, port, scheme))
    if exact is not None:
        return exact
    name = door_name("", port, scheme)
    if doors.find(name) is None and host not in ("", "localhost"):
        return None
    if host in ("", "localhost"):
        return doors.find(name) or doors.find(f"{scheme}://127.0.0.1:{port}")
    return doors.find(name) if addressing.is_own_ip(host) else None
