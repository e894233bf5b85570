"""Where web pages listen: the forms of ``dashboard_address``, and a socket bound there. Shell."""

from __future__ import annotations

import errno
import socket
import warnings
from typing import Any

from distributed.comm.addressing import is_loopback
from distributed.comm.port_holder import describe_holder

LOOPBACK = "127.0.0.1"
LOOPBACK_NAMES = frozenset(["localhost", "127.0.0.1", "::1"])
_BACKLOG = 128


def parse_dashboard_address(address: Any, default_port: int = 8787) -> tuple[str, int]:
    """Host and port of ``":8787"``, ``"host:port"``, ``"host"``, ``":0"``, ``""`` (the default port) or a bare number.

    Without a host: the loopback address. Raises TypeError or ValueError that shows the wrong address.

    >>> parse_dashboard_address(":8787"), parse_dashboard_address("0.0.0.0:80"), parse_dashboard_address("")
    (('127.0.0.1', 8787), ('0.0.0.0', 80), ('127.0.0.1', 8787))
    """
    if isinstance(address, int) and not isinstance(address, bool):
        return LOOPBACK, _port(address, address)
    if isinstance(address, (tuple, list)) and len(address) == 2:
        return str(address[0]) or LOOPBACK, _port(address[1], address)
    if not isinstance(address, str):
        raise TypeError(f"dashboard_address must be like ':8787' or 'host:port', not {address!r}")
    text = address.partition("://")[2] or address
    text = text.rstrip("/")
    if text.isdigit():
        return LOOPBACK, _port(text, address)
    host, colon, port = text.rpartition(":")
    if not colon or (text.startswith("[") and text.endswith("]")):
        host, port = text, ""
    return host.strip("[]") or LOOPBACK, _port(port, address) if port else default_port


def _port(value: Any, address: Any) -> int:
    try:
        port = int(value)
    except ValueError:
        raise ValueError(f"no port number in dashboard_address {address!r}") from None
    if not 0 <= port <= 65535:
        raise ValueError(f"the port in dashboard_address {address!r} must be from 0 to 65535")
    return port


def bind(host: str, port: int) -> socket.socket:
    """A listening socket at ``host``; at another port, with a warning, when ``port`` is taken."""
    family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    try:
        return _bind(family, place)
    except OSError as e:
        if e.errno != errno.EADDRINUSE or not port:
            raise OSError(e.errno, f"cannot serve web pages at {host}:{port}: {e.strerror}") from e
    found = _bind(family, (place[0], 0, *place[2:]))
    warnings.warn(
        f"Port {port} is already in use ({describe_holder(port)}), perhaps by another cluster of yours; the pages of "
        f"this one are on port {found.getsockname()[1]} instead",
        UserWarning,
        stacklevel=4,
    )
    return found


def _bind(family: int, place: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def allowed_hosts(host: str) -> frozenset[str] | None:
    """What a request to a listener at ``host`` may call it in its Host header; None: anything.

    A page of another site whose name was made to point at the loopback address (DNS rebinding) is refused so.
    """
    if host in ("localhost", "") or is_loopback(host):
        return LOOPBACK_NAMES | {host}
    return None
