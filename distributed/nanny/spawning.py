"""Starts the interpreters of worker processes, some of them ahead of their nannies. Shell.

An interpreter needs a tenth of a second and more for its imports, and nothing of its nanny's until then: its
configuration comes over the line. So a cluster starts as many as it will need before it makes its scheduler, and each
nanny takes one whose environment is the one it wants. One that nobody takes is ended.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from distributed.nanny import environment
from distributed.worker.executing_page import ExecutingPage

_MODULE = "distributed.nanny.worker_process"


@dataclass(frozen=True, eq=False)
class Spawned:
    """An interpreter that waits for its configuration at the other end of ``line``; ``page`` is shared with it."""

    popen: subprocess.Popen[bytes]
    line: socket.socket
    page: ExecutingPage
    variables: dict[str, str]

    def end(self) -> None:
        """Nobody wants it: end it, and let go of what it held."""
        self.line.close()
        self.popen.kill()
        self.popen.wait()
        assert self.popen.stderr is not None
        self.popen.stderr.close()
        self.page.close()


_spares: list[Spawned] = []
_lock = threading.Lock()


def spawn(variables: Mapping[str, str]) -> Spawned:
    """A new interpreter with this environment."""
    page = ExecutingPage.create()
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        popen = subprocess.Popen(
            [sys.executable, "-m", _MODULE],
            stdin=theirs.fileno(),
            stderr=subprocess.PIPE,
            pass_fds=(page.fd,),
            env=dict(variables),
            process_group=0,
        )
    except BaseException:
        ours.close()
        page.close()
        raise
    finally:
        theirs.close()
    assert popen.stderr is not None
    os.set_blocking(popen.stderr.fileno(), False)
    return Spawned(popen, ours, page, dict(variables))


def take(variables: Mapping[str, str]) -> Spawned:
    """An interpreter with this environment: one that was started ahead, or a new one."""
    with _lock:
        for spare in _spares:
            if spare.variables == variables and spare.popen.poll() is None:
                _spares.remove(spare)
                return spare
    return spawn(variables)


@contextlib.contextmanager
def ahead(n: int) -> Iterator[None]:
    """Have ``n`` interpreters start while the body makes those who take them; what is left then is ended."""
    variables = environment.expected_variables()
    mine: list[Spawned] = []
    try:
        for _ in range(n):
            spare = spawn(variables)
            mine.append(spare)
            with _lock:
                _spares.append(spare)
        yield
    finally:
        with _lock:
            left = [spare for spare in mine if spare in _spares]
            _spares[:] = [spare for spare in _spares if spare not in left]
        for spare in left:
            spare.end()
