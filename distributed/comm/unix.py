"""``unix:///path``: stream sockets in the file system, and this user's runtime directory where the twins of tcp
listeners lie.

Nobody but this user can enter the runtime directory (mode 0700, owner and kind checked at every use).
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import logging
import os
import re
import socket
import stat
import tempfile
import time
import weakref

from distributed.comm import secrets
from distributed.comm.accepting import Acceptor
from distributed.comm.inproc import Door, doors
from distributed.comm.keys import Secret
from distributed.comm.transport import Listener, OnComm

logger = logging.getLogger("distributed.comm")

ENV_RUNTIME_DIR = "DASK_DISTRIBUTED__RUNTIME_DIRECTORY"
# What sockaddr_un holds, with the closing zero, on the meanest of the platforms.
_MAX_PATH = 103
_BACKLOG = 2048
_SWEEP_AFTER_S = 60.0
_SWEEP_AT_MOST = 1000


def supported() -> bool:
    """Whether this platform has unix sockets."""
    return hasattr(socket, "AF_UNIX")


def runtime_directory() -> str:
    """Where this user's sockets lie; not created here."""
    explicit = os.environ.get(ENV_RUNTIME_DIR)
    if explicit:
        return explicit
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.path.isabs(base) and os.path.isdir(base):
        return os.path.join(base, "dask-distributed")
    uid = os.getuid() if hasattr(os, "getuid") else 0
    return os.path.join(tempfile.gettempdir(), f"dask-distributed-{uid}")


@functools.cache
def _network() -> str:
    """A name of this network namespace: in another one, the same host and port mean another listener."""
    try:
        return f"{os.stat('/proc/self/ns/net').st_ino:x}"
    except OSError:
        return "0"


def twin_path(host: str, port: int, make: bool = False) -> str | None:
    """Where the unix twin of the tcp listener at ``host:port`` lies; None when there is no safe place for one."""
    if not supported():
        return None
    directory = runtime_directory()
    if make:
        try:
            secrets.private_directory(directory, "the runtime directory")
        except OSError as e:
            logger.debug("No unix sockets: %s", e)
            return None
        _sweep(directory)
    name = re.sub(r"[^0-9A-Za-z.]", "_", host)
    path = os.path.join(directory, f"{_network()}-{name}-{port}")
    return path if len(os.fsencode(path)) <= _MAX_PATH else None


@functools.cache
def _sweep(directory: str) -> None:
    """Once a process: remove sockets at which nobody listens any more, left by processes that were killed."""
    horizon = time.time() - _SWEEP_AFTER_S  # a younger one may be between bind and listen
    try:
        entries = [e for e in os.scandir(directory) if stat.S_ISSOCK(e.stat(follow_symlinks=False).st_mode)]
    except OSError:
        return
    for entry in entries[:_SWEEP_AT_MOST]:
        try:
            if entry.stat(follow_symlinks=False).st_mtime > horizon:
                continue
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.setblocking(False)
                probe.connect(entry.path)
        except ConnectionRefusedError:
            try:
                os.unlink(entry.path)
            except OSError:
                pass
        except OSError:  # alive and busy, or gone meanwhile
            pass


def find_twin(host: str, port: int) -> str | None:
    """The twin's path if one may be there: its directory is this user's and the file is a socket of this user."""
    for name in (host, "any"):
        path = twin_path(name, port)
        if path is None:
            return None
        try:
            directory = os.lstat(os.path.dirname(path))
            info = os.lstat(path)
        except OSError:
            continue
        mine = os.getuid()
        if (
            stat.S_ISDIR(directory.st_mode)
            and directory.st_uid == mine
            and not directory.st_mode & 0o077
            and stat.S_ISSOCK(info.st_mode)
            and info.st_uid == mine
        ):
            return path
    return None


def remove_dead_twin(host: str, port: int) -> bool:
    """Remove the twin of the tcp listener at ``host:port`` if nobody listens there: its process was killed.

    Returns whether there is none now.
    """
    path = find_twin(host, port)
    if path is None:
        return True
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return True
    return False


def configure(sock: socket.socket) -> None:
    """Larger kernel buffers: the default of 208 kB makes the two ends take turns."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
        except OSError:
            pass


def addresses_of(sock: socket.socket) -> tuple[str, str]:
    """(local, peer) of a connected socket; the connecting end has no name of its own."""
    local, peer = sock.getsockname(), sock.getpeername()
    if isinstance(local, bytes):
        local = os.fsdecode(local)
    if isinstance(peer, bytes):
        peer = os.fsdecode(peer)
    return f"unix://{local}", f"unix://{peer}"


async def connect_socket(path: str) -> socket.socket:
    """A connected, configured socket. Raises OSError."""
    if not supported():
        raise OSError("this platform has no unix sockets")
    if len(os.fsencode(path)) > _MAX_PATH:
        raise OSError(f"the path of a unix socket has at most {_MAX_PATH} bytes: {path!r}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        configure(sock)
        await asyncio.get_running_loop().sock_connect(sock, path)
    except BaseException:
        sock.close()
        raise
    return sock


class UnixListener(Listener):
    """Listens at a path, which only this user can open; a socket left there by a process that is gone is replaced."""

    def __init__(self, path: str, on_comm: OnComm, role: str, secret: Secret) -> None:
        self._path = path
        self._on_comm = on_comm
        self._role = role
        self._secrets: tuple[Secret, ...] = (secret,)
        self._acceptor: Acceptor | None = None
        self._inode: tuple[int, int] | None = None
        self._pid = os.getpid()
        self._door: Door | None = None

    async def start(self) -> None:
        if self._acceptor is not None:
            return
        if not supported():
            raise OSError("this platform has no unix sockets")
        if not self._path:
            directory = secrets.private_directory(runtime_directory(), "the runtime directory")
            self._path = str(directory / f"{os.getpid()}-{os.urandom(4).hex()}")
        path = self._path
        self.listen_address = self.contact_address = f"unix://{path}"
        if len(os.fsencode(path)) > _MAX_PATH:
            raise OSError(f"the path of a unix socket has at most {_MAX_PATH} bytes: {path!r}")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._bind(sock, path)
            sock.listen(_BACKLOG)
            info = os.lstat(path)
            self._inode = (info.st_dev, info.st_ino)
            os.chmod(path, 0o600)
        except OSError as e:
            sock.close()
            raise OSError(e.errno, f"cannot listen at {self.listen_address}: {e.strerror or e}") from e
        _listening.add(self)
        self._acceptor = Acceptor(sock, self._on_comm, self._role, self._secrets, addresses_of, configure, path)
        self._door = Door(self.contact_address, self._on_comm, self._role, asyncio.get_running_loop())
        doors.add(self.contact_address, self._door)

    @staticmethod
    def _bind(sock: socket.socket, path: str) -> None:
        try:
            sock.bind(path)
            return
        except OSError:
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(1.0)
                try:
                    probe.connect(path)
                except ConnectionRefusedError:
                    os.unlink(path)
                else:
                    raise
        sock.bind(path)

    def accept_secrets(self, *secrets: Secret) -> None:
        self._secrets = secrets
        if self._acceptor is not None:
            self._acceptor.secrets = secrets

    def stop(self) -> None:
        if self._acceptor is None:
            return
        self._acceptor.close()
        self._acceptor = None
        if self._door is not None:
            self._door.open = False
            doors.discard(self.contact_address, self._door)
            self._door = None
        self.unlink()

    def unlink(self) -> None:
        """Remove our socket file; also called when the program ends in haste."""
        if os.getpid() != self._pid:
            return  # in a copy that a task has made of this process
        try:
            info = os.lstat(self._path)
            if (info.st_dev, info.st_ino) == self._inode:
                os.unlink(self._path)
        except OSError:
            pass


_listening: weakref.WeakSet[UnixListener] = weakref.WeakSet()


@atexit.register
def _unlink_all() -> None:
    for listener in list(_listening):
        listener.unlink()
