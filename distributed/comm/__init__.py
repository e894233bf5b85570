"""Transports: how batches of messages get from one process to another. Addresses, secrets, the handshake.

One port (:mod:`.transport`), three ways to fill it: tcp, unix sockets, and within the process; and transports of other
packages behind it (:mod:`.backends`, :mod:`.foreign`). Everything that
arrives here over a socket has proved that it knows the cluster's secret, before a single byte of it was decoded.
"""

from __future__ import annotations

from distributed.base.errors import CommClosedError, HandshakeRefused
from distributed.comm.addressing import (
    get_address_host,
    get_address_host_port,
    get_local_address_for,
    normalize_address,
    parse_address,
    parse_host_port,
    resolve_address,
    unparse_address,
    unparse_host_port,
)
from distributed.comm.keys import Secret
from distributed.comm.registry import backends, connect, listen
from distributed.comm.transport import Comm, Listener

__all__ = [
    "Comm",
    "CommClosedError",
    "HandshakeRefused",
    "Listener",
    "Secret",
    "backends",
    "connect",
    "get_address_host",
    "get_address_host_port",
    "get_local_address_for",
    "listen",
    "normalize_address",
    "parse_address",
    "parse_host_port",
    "resolve_address",
    "unparse_address",
    "unparse_host_port",
]
