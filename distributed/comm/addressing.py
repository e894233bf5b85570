"""What an address says: scheme, host, port; which interface it means; how a user's words become one.

An address is ``scheme://location``: ``tcp://127.0.0.1:8786``, ``tcp://[::1]:8786``, ``unix:///run/x.sock``,
``inproc://192.168.1.2/4711/1``. Without a scheme it is tcp. Functions here look at names and interfaces only; they open
no connection (name lookup apart) and know nothing of secrets or transports' state. The location of a scheme of another
package is that package's to read.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
import os
import socket
from typing import TYPE_CHECKING, Any

from distributed.base import settings
from distributed.base.lazy import lazy_module
from distributed.comm.backends import find_backend

if TYPE_CHECKING:
    import psutil
else:
    psutil = lazy_module("psutil")

DEFAULT_SCHEME = "tcp"
OWN_SCHEMES = ("inproc", "tcp", "tls", "unix")
_counter = itertools.count(1)


def default_scheme() -> str:
    """The scheme of an address that names none (setting ``comm.default-scheme``)."""
    return str(settings.get("distributed.comm.default-scheme", DEFAULT_SCHEME) or DEFAULT_SCHEME)


def _foreign(scheme: str) -> Any | None:
    """The transport of another package that has this scheme; None for this house's own."""
    return find_backend(scheme, installed=scheme not in OWN_SCHEMES)


def parse_address(addr: str, strict: bool = False) -> tuple[str, str]:
    """Split ``addr`` into scheme and location.

    Parameters
    ----------
    addr: ``"tcp://127.0.0.1:8786"``, or ``"127.0.0.1:8786"`` when not ``strict``

    Returns
    -------
    ``(scheme, location)``

    Raises
    ------
    TypeError: ``addr`` is not a string
    ValueError: ``strict`` and no scheme given

    >>> parse_address("unix:///run/me/x.sock")
    ('unix', '/run/me/x.sock')
    """
    if not isinstance(addr, str):
        raise TypeError(f"expected an address as str, got {addr.__class__.__name__!r}")
    scheme, sep, location = addr.rpartition("://")
    if strict and not sep:
        raise ValueError(f"{addr!r} names no scheme; an address is written scheme://location, for example tcp://{addr}")
    return (scheme, location) if sep and scheme else (default_scheme(), location)


def unparse_address(protocol: str, loc: str) -> str:
    """The inverse of :func:`parse_address`.

    >>> unparse_address("inproc", "10.0.0.5/77/1")
    'inproc://10.0.0.5/77/1'
    """
    return f"{protocol}://{loc}"


def normalize_address(addr: str) -> str:
    """``addr`` with its scheme spelled out.

    >>> normalize_address("node7:9000")
    'tcp://node7:9000'
    """
    return unparse_address(*parse_address(addr))


def parse_host_port(address: str | tuple[str, int], default_port: str | int | None = None) -> tuple[str, int]:
    """Host and port of ``host:port``, ``[ipv6]:port``, ``:port`` or, with ``default_port``, ``host`` alone.

    Raises ``ValueError`` that names what is missing.

    >>> parse_host_port("[fe80::7]:9000")
    ('fe80::7', 9000)
    >>> parse_host_port("host", 8786)
    ('host', 8786)
    """
    if isinstance(address, tuple):
        host, raw = address
        return host, int(raw)
    text = address.partition("://")[2] or address if "://" in address else address
    text = text.split("/", 1)[0] if not text.startswith("/") else text
    port: str | int | None
    if text.startswith("["):
        host, closing, tail = text[1:].partition("]")
        if not closing:
            raise ValueError(f"invalid address {address!r}: a bracket is not closed")
        if tail and not tail.startswith(":"):
            raise ValueError(f"invalid address {address!r}: after ']' comes ':port'")
        port = tail[1:] if tail else None
    else:
        host, sep, tail = text.partition(":")
        if ":" in tail:
            raise ValueError(f"{address!r} has several colons: write an ipv6 address in brackets, as in [fe80::7]:8786")
        port = tail if sep else None
    if port is None or port == "":
        port = default_port
    if port is None:
        raise ValueError(f"{address!r} names no port")
    try:
        number = int(port)
    except ValueError:
        raise ValueError(f"invalid port {port!r} in address {address!r}: it must be a number") from None
    if not 0 <= number <= 65535:
        raise ValueError(f"invalid port {number} in address {address!r}: it must be from 0 to 65535")
    return host, number


def unparse_host_port(host: str, port: int | None = None) -> str:
    """The inverse of :func:`parse_host_port`; an ipv6 host gets its brackets.

    >>> unparse_host_port("fe80::7", 9000)
    '[fe80::7]:9000'
    """
    text = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return text if port is None else f"{text}:{port}"


def get_address_host_port(addr: str, strict: bool = False) -> tuple[str, int]:
    """Host and port of a tcp-like address; ``ValueError`` for an address without them.

    >>> get_address_host_port("tcp://[fe80::7]:9000")
    ('fe80::7', 9000)
    """
    scheme, location = parse_address(addr, strict=strict)
    backend = _foreign(scheme)
    if backend is not None:
        try:
            host, port = backend.get_address_host_port(location)
        except NotImplementedError:
            raise ValueError(f"{addr!r} has neither host nor port, says the transport of the scheme {scheme}") from None
        return host, port
    if scheme in ("inproc", "unix"):
        raise ValueError(f"{addr!r} has neither host nor port: it is an address of the scheme {scheme}")
    return parse_host_port(location)


def get_address_host(addr: str) -> str:
    """The host of an address; this machine's for ``inproc`` and ``unix``.

    >>> get_address_host("node7:9000")
    'node7'
    """
    scheme, location = parse_address(addr)
    if scheme == "inproc":
        return location.split("/", 1)[0]
    if scheme == "unix":
        return "127.0.0.1"
    backend = _foreign(scheme)
    return parse_host_port(location)[0] if backend is None else str(backend.get_address_host(location))


def resolve_address(addr: str) -> str:
    """``addr`` with its host name replaced by an ip address.

    Raises ``OSError`` when the name is unknown.

    >>> resolve_address("localhost:9000")
    'tcp://127.0.0.1:9000'
    """
    scheme, location = parse_address(addr)
    if scheme in ("inproc", "unix"):
        return addr
    backend = _foreign(scheme)
    if backend is not None:
        return unparse_address(scheme, backend.resolve_address(location))
    host, port = parse_host_port(location)
    return unparse_address(scheme, unparse_host_port(ensure_ip(host), port))


def get_local_address_for(addr: str) -> str:
    """An address of this machine, without a port, that whoever is at ``addr`` can reach.

    >>> get_local_address_for("localhost:9000")
    'tcp://127.0.0.1'
    """
    scheme, location = parse_address(addr)
    if scheme == "inproc":
        return new_inproc_address()
    if scheme == "unix":
        return "tcp://127.0.0.1"
    backend = _foreign(scheme)
    if backend is not None:
        return unparse_address(scheme, backend.get_local_address_for(location))
    host, port = parse_host_port(location)
    ip = ensure_ip(host)
    local = get_ipv6(ip, port or 80) if ":" in ip else get_ip(ip, port or 80)
    return unparse_address(scheme, unparse_host_port(local))


def uri_from_host_port(host_arg: str | None, port_arg: str | int | None, default_port: int) -> str:
    """A listening address from the ``--host`` and ``--port`` of a command line.

    >>> uri_from_host_port("node7", "", 9000)
    'tcp://node7:9000'
    """
    scheme, location = parse_address(host_arg or "")
    given = None if port_arg is None or port_arg == "" else int(port_arg)
    host, port = parse_host_port(location, given if given is not None else default_port)
    if given is not None and port != given:
        raise ValueError(f"two different ports were asked for: {port} in {host_arg!r}, and {given}")
    return unparse_address(scheme, unparse_host_port(host, port))


def addresses_from_user_args(
    host: Any = None,
    port: Any = None,
    interface: Any = None,
    protocol: Any = None,
    peer: str | None = None,
    security: Any = None,
    default_port: int = 0,
) -> list[str]:
    """One listening address, or several: each of ``host``, ``port``, ``interface`` and ``protocol`` may be a list.

    Raises ``ValueError`` for lists of different lengths, and as :func:`address_from_user_args` does. ``security`` is
    accepted, without effect.

    >>> addresses_from_user_args(host="1.2.3.4", port=[1, 2])
    ['tcp://1.2.3.4:1', 'tcp://1.2.3.4:2']
    """
    given = {"host": host, "port": port, "interface": interface, "protocol": protocol}
    lengths = {name: len(value) for name, value in given.items() if isinstance(value, (list, tuple))}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"lists of different lengths, which make no pairs: {lengths}")
    n = next(iter(lengths.values()), 1)
    each = [{name: value[i] if name in lengths else value for name, value in given.items()} for i in range(n)]
    return [address_from_user_args(**one, peer=peer, default_port=default_port) for one in each]


def address_from_user_args(
    host: str | None = None,
    port: int | str | None = None,
    interface: str | None = None,
    protocol: str | None = None,
    peer: str | None = None,
    default_port: int = 0,
) -> str:
    """A listening address from the keywords of Scheduler, Worker and Nanny; empty when none of them says anything.

    Raises ``ValueError`` for ``host`` and ``interface`` together, an unknown interface, or a port given twice.

    >>> address_from_user_args(host="1.2.3.4", port=8786)
    'tcp://1.2.3.4:8786'
    """
    if isinstance(port, str):
        port = int(port) if port else None
    if port is not None and not 0 <= int(port) <= 65535:
        raise ValueError(f"invalid port {port}: it must be from 0 to 65535")
    if interface and host:
        raise ValueError(f"give host or interface, not both (host={host!r}, interface={interface!r})")
    scheme = protocol.rstrip(":/") if protocol else None
    if scheme == "inproc":
        return "inproc://"
    if host and "://" in host:
        own, location = parse_address(host)
        if scheme and scheme != own:
            raise ValueError(f"protocol given twice: host {host!r} and protocol {protocol!r}")
        scheme, host = own, location
        if scheme in ("inproc", "unix"):
            return unparse_address(scheme, location)
    if interface:
        host = get_ip_interface(interface)
    if host or port is not None or scheme or interface:
        if not scheme and peer and "://" in peer:
            scheme = parse_address(peer)[0]
        if host and not host.startswith("[") and host.count(":") > 1:
            host = f"[{host}]"
        return uri_from_host_port(
            unparse_address(scheme or default_scheme(), host or ""), port if port is not None else None, default_port
        )
    return ""


@functools.lru_cache(maxsize=256)
def _lookup(host: str) -> str:
    families = [socket.AF_INET, socket.AF_INET6]
    error: OSError | None = None
    for family in families:
        try:
            found = socket.getaddrinfo(host, 1234, family, socket.SOCK_STREAM)
        except OSError as e:
            error = error or e
            continue
        return str(found[0][4][0])
    assert error is not None
    raise type(error)(error.errno, f"unknown host {host!r} ({error.strerror})")


def ensure_ip(hostname: str) -> str:
    """The ip address of a host name, v4 if it has one; an ip address is returned as it is. Empty: loopback.

    >>> ensure_ip("localhost")
    '127.0.0.1'
    """
    if not hostname:
        hostname = "localhost"
    if hostname.startswith("[") and hostname.endswith("]"):
        hostname = hostname[1:-1]
    try:
        ipaddress.ip_address(hostname.partition("%")[0])
    except ValueError:
        return _lookup(hostname)
    return hostname


def _ip_towards(host: str, port: int, family: int, fallback: str) -> str:
    # Connecting a datagram socket sends nothing; it only makes the kernel choose the interface.
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((host, port))
            return str(sock.getsockname()[0])
        except OSError:
            pass
    try:
        return str(socket.getaddrinfo(socket.gethostname(), port, family, socket.SOCK_DGRAM)[0][4][0])
    except OSError:
        return fallback


def get_ip(host: str = "8.8.8.8", port: int = 80) -> str:
    """The ip (v4) address of the interface by which this machine reaches ``host`` (default: the world)."""
    return _ip_towards(host, port, socket.AF_INET, "127.0.0.1")


def get_ipv6(host: str = "2001:4860:4860::8888", port: int = 80) -> str:
    """The ip (v6) address of the interface by which this machine reaches ``host`` (default: the world)."""
    return _ip_towards(host, port, socket.AF_INET6, "::1")


def get_ip_interface(ifname: str) -> str:
    """The ip (v4, else v6) address of the network interface ``ifname``.

    Raises ``ValueError`` that lists the interfaces there are.
    """
    interfaces = psutil.net_if_addrs()
    if ifname not in interfaces:
        raise ValueError(f"this machine has no network interface {ifname!r}; it has {', '.join(interfaces)}")
    for family in (socket.AF_INET, socket.AF_INET6):
        for info in interfaces[ifname]:
            if info.family == family:
                return str(info.address).partition("%")[0]
    raise ValueError(f"the network interface {ifname!r} has no ip address")


@functools.cache
def _own_ips(_second: int) -> frozenset[str]:
    found = {"127.0.0.1", "::1"}
    try:
        for infos in psutil.net_if_addrs().values():
            found.update(
                str(i.address).partition("%")[0] for i in infos if i.family in (socket.AF_INET, socket.AF_INET6)
            )
    except OSError:
        pass
    return frozenset(found)


def is_own_ip(ip: str) -> bool:
    """Whether ``ip`` is an address of this machine (looked up once)."""
    return ip.startswith("127.") or ip in ("", "::", "0.0.0.0") or ip in _own_ips(0)


def is_loopback(ip: str) -> bool:
    """Whether only this machine can reach ``ip``."""
    return ip == "::1" or ip.startswith("127.")


def is_wildcard(host: str) -> bool:
    """Whether a listener at ``host`` listens on every interface."""
    return host in ("", "0.0.0.0", "::", "[::]")


def new_inproc_address() -> str:
    """A fresh ``inproc://`` address of this process."""
    return f"inproc://{_inproc_host()}/{os.getpid()}/{next(_counter)}"


@functools.cache
def _inproc_host() -> str:
    return get_ip()


def open_port(host: str = "") -> int:
    """A tcp port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def as_host_port(address: Any, port: int | None = None, default_port: int = 8786) -> str:
    """An address from the ways users write one: an address, ``host``, ``(host, port)``, or host and port apart.

    >>> as_host_port("127.0.0.1", 8786)
    'tcp://127.0.0.1:8786'
    """
    if isinstance(address, (tuple, list)) and len(address) == 2:
        address, port = str(address[0]), int(address[1])
    if not isinstance(address, str):
        raise TypeError(f"expected an address as str, got {address.__class__.__name__!r}")
    scheme, location = parse_address(address)
    if scheme in ("inproc", "unix") or _foreign(scheme) is not None:
        return unparse_address(scheme, location)
    host, number = parse_host_port(location, port if port is not None else default_port)
    return unparse_address(scheme, unparse_host_port(host, number))
