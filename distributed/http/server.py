"""The HTTP server of one scheduler or worker: bound at once, built when the first browser comes. Shell.

tornado's web framework costs as much to import as the rest of the program; most programs are never looked at.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from typing import Any

from distributed.base import defaults, settings
from distributed.base.errors import InsecureListenError
from distributed.comm import web_access
from distributed.comm.accept_loop import AcceptLoop
from distributed.comm.certificates import is_content, load_chain
from distributed.http.addressing import allowed_hosts, bind, parse_dashboard_address
from distributed.http.loop_watch import LoopWatch

logger = logging.getLogger("distributed.http")

_BUILD = "distributed.http.application:build"
_SERVE = "distributed.http.streams:serve"
STOP_S = 1.0
_RETRY_S = 1.0
_FDS_TO_BUILD = 8
"""Importing opens files, some inside of others."""


class WebServer:
    """Serves the pages of ``owner``.

    Parameters
    ----------
    owner
        The scheduler or worker that is shown.
    address
        See :func:`parse_dashboard_address`.
    prefix
        Put before all paths, such as ``"/foo"``.
    """

    def __init__(self, owner: Any, address: Any, prefix: str | None = "/", default_port: int = 8787) -> None:
        self.owner = owner
        self.host, port = parse_dashboard_address(address, default_port)
        self.prefix = normalize_prefix(prefix)
        _check_open(owner, self.host)
        self.tls = tls_context()
        self._socket: socket.socket | None = bind(self.host, port)
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.get_running_loop()
        self._server: Any = None
        # Users and extensions may add their own (path, handler, options) before the first request.
        self.extra_routes: list[tuple[Any, ...]] = []
        self._accepting: AcceptLoop | None = None
        self.watch = LoopWatch()
        self._wait_for_visitor()

    @property
    def allowed_hosts(self) -> frozenset[str] | None:
        """What requests may call this server; None: anything."""
        return allowed_hosts(self.host)

    @property
    def scheme(self) -> str:
        """``http``, or ``https`` where the settings name a certificate."""
        return "http" if self.tls is None else "https"

    @property
    def link(self) -> str:
        """Where a browser on this machine finds the status page, once it has signed in."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}{self.prefix}/status"

    @property
    def sign_in_link(self) -> str:
        """The same link; it signs a browser in."""
        secret = self.owner.secret
        return self.link if secret.is_open else web_access.sign(self.link, secret, self.owner.id)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port

    def _wait_for_visitor(self) -> None:
        if self._socket is not None:
            self._loop.add_reader(self._socket.fileno(), self._on_first_visitor)

    def _on_first_visitor(self) -> None:
        sock, self._socket = self._socket, None
        if sock is None:
            return
        self._loop.remove_reader(sock.fileno())
        if not _fds_left(_FDS_TO_BUILD):
            self._socket = sock
            self._loop.call_later(_RETRY_S, self._wait_for_visitor)
            return
        try:
            server, serve = defaults.load(_BUILD)(self), defaults.load(_SERVE)
            self._server = server
        except Exception:
            logger.exception("The web pages of %r cannot be served", self.owner)
            sock.close()
            return
        # The visitor is still in the queue of the socket: the loop finds it there.
        self._accepting = AcceptLoop(sock, lambda s, address: serve(server, s, address, self.tls), self.link)

    async def stop(self) -> None:
        """Close the socket and all connections. Idempotent."""
        self.watch.stop()
        sock, self._socket = self._socket, None
        if sock is not None:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        if self._accepting is not None:
            self._accepting.close()
        server, self._server = self._server, None
        if server is not None:
            server.stop()
            try:
                async with asyncio.timeout(STOP_S):
                    await server.close_all_connections()
            except TimeoutError:
                logger.debug("Some visitors of %r did not let go", self.owner)

    def audit(self, action: str, request: Any, outcome: str) -> None:
        """Note who had something done, or was refused, under the topic ``audit``."""
        log_event = getattr(self.owner, "log_event", None)
        if log_event is not None:
            who = {"role": "web", "peer": f"http://{request.remote_ip}"}
            log_event("audit", {"action": action, **who, "outcome": outcome})

    def __repr__(self) -> str:
        return f"<WebServer {self.link}>"


def tls_context() -> ssl.SSLContext | None:
    """What encrypts the pages of this process: ``distributed.scheduler.dashboard.tls``; None: they go in clear.

    Raises ValueError that names the setting when there is no such file, or it holds something else.
    """
    certificate = settings.get("distributed.scheduler.dashboard.tls.cert", None)
    key = settings.get("distributed.scheduler.dashboard.tls.key", None)
    if not certificate:
        if key:
            raise ValueError(
                "distributed.scheduler.dashboard.tls has a key and no cert: pages need one to be encrypted"
            )
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        load_chain(context, certificate, key)
    except OSError as error:  # an SSLError is one
        where = "" if is_content(str(certificate)) else f" ({certificate}{f', {key}' if key else ''})"
        raise ValueError(
            "distributed.scheduler.dashboard.tls.cert and .key must be a certificate and its key, as PEM files or PEM "
            f"text{where}: {error}"
        ) from error
    return context


def _check_open(owner: Any, host: str) -> None:
    """Raise PermissionError when everybody on other machines could come in, and that was not spelled out."""
    if allowed_hosts(host) is not None:
        return
    if owner.secret.is_open and not settings.get("distributed.auth.insecure-listen", False):
        raise InsecureListenError(
            errno.EPERM,
            f"web pages at {host!r} without authentication would let everybody who reaches this machine look and act "
            "here. Serve them at 127.0.0.1, or turn authentication on (distributed.auth.required), or say that you "
            "mean it: --insecure-listen, or set distributed.auth.insecure-listen "
            "(DASK_DISTRIBUTED__AUTH__INSECURE_LISTEN=True)",
        )
    if owner.secret.is_open or not settings.get("distributed.auth.pages", True):
        logger.warning("Web pages at %r WITHOUT authentication: everybody who reaches them can read along", host)


def _fds_left(n: int) -> bool:
    """Whether this process may open so many more files now."""
    opened: list[int] = []
    try:
        opened.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(n))
    except OSError:
        return False
    finally:
        for fd in opened:
            os.close(fd)
    return True


def start_http_server(
    owner: Any, dashboard_address: Any, prefix: str | None = "/", default_port: int = 8787
) -> WebServer:
    """Serve the pages of a scheduler or worker, on the running event loop.

    Warns and takes a free port when the port is taken. Raises OSError when the address is not ours.
    """
    return WebServer(owner, dashboard_address, prefix, default_port)


def normalize_prefix(prefix: str | None) -> str:
    """``"foo"``, ``"/foo/"`` -> ``"/foo"``; ``"/"``, None -> ``""``."""
    text = (prefix or "").strip("/")
    return f"/{text}" if text else ""
