"""Accepting connections on a listening socket, at a pace that the process can bear. Shell.

When file descriptors run out, the connection stays in the kernel's queue and the socket stays readable: an accept loop
that does not pause would spin, and one that logs each failure would fill the disk. This one waits, a little longer each
time, says so once a minute, and goes on when there are descriptors again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

from distributed.base.log_limit import LogLimit

logger = logging.getLogger("distributed.comm")

OUT_OF_FDS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RETRY_S = 0.02
_BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)
_ACCEPTS_A_TURN = 64


def _always() -> bool:
    return True


def _never() -> bool:
    return False


class AcceptLoop:
    """Calls ``on_accept(socket, address)`` for each connection that comes to ``sock``, which belongs to it.

    Parameters
    ----------
    name: what listens here, for the log
    has_room: asked before each accept; False: not now, a little later
    make_room: called when file descriptors have run out; True: one was freed, so that accepting can go on at once
    """

    def __init__(
        self,
        sock: socket.socket,
        on_accept: Callable[[socket.socket, Any], None],
        name: str,
        has_room: Callable[[], bool] = _always,
        make_room: Callable[[], bool] = _never,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._fd = sock.fileno()
        self._on_accept = on_accept
        self._name = name
        self._has_room = has_room
        self._make_room = make_room
        self._log = LogLimit(logger)
        self._failures = 0
        self._resume_timer: asyncio.TimerHandle | None = None
        self._closed = False
        sock.setblocking(False)
        self._loop.add_reader(self._fd, self._on_readable)

    def _on_readable(self) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            if not self._has_room():
                self._pause(_RETRY_S)
                return
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as e:
                if self._closed:
                    return
                hint = " (raise 'ulimit -n')" if e.errno in OUT_OF_FDS else ""
                self._log.warn(
                    "accept", "Cannot accept connections at %s for now: %s%s", self._name, e.strerror or e, hint
                )
                if e.errno in OUT_OF_FDS and self._make_room():
                    continue
                self._back_off()
                return
            if self._failures:
                self._failures = 0
                logger.info("Accepting connections at %s again", self._name)
            self._on_accept(sock, address)

    def _back_off(self) -> None:
        """Pause, longer with each time in a row."""
        pause = _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
        self._failures += 1
        self._pause(pause)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._fd)
        self._resume_timer = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._resume_timer = None
        if not self._closed:
            self._loop.add_reader(self._fd, self._on_readable)

    def close(self) -> None:
        """Stop listening. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._resume_timer is not None:
            self._resume_timer.cancel()
        self._loop.remove_reader(self._fd)
        self._sock.close()
