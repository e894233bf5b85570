"""One worker process: started, watched, listened to, ended. Shell; decides nothing.

Everything happens on the nanny's event loop, in whichever thread that runs: the end of the process is seen through a
pidfd (a waiting thread where there is none), never through SIGCHLD. The child leads a process group of its own, so that
Ctrl-C goes to the nanny alone, and what tasks have left running is killed with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from distributed.nanny import spawning
from distributed.nanny.channel import MessageReader, packed

logger = logging.getLogger("distributed.nanny")

TAIL_LINES = 50
FATAL_LINES = 30
_FATAL = b"Fatal Python error"
_CRASHED = re.compile(r"Current thread 0x([0-9a-f]+)")
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


@dataclass(frozen=True)
class ProcessEnd:
    """How a process ended: exactly one of ``exit_code`` and ``signal``, unless somebody else has collected it.

    ``culprits``: those of the ``executing`` runs that ended it, when one thread is known to have done so. ``cause``:
    what was told to :meth:`WorkerProcess.kill_now`.
    """

    pid: int
    exit_code: int | None
    signal: int | None
    executing: tuple[int, ...]
    culprits: tuple[int, ...] | None
    peak_bytes: int
    log_tail: tuple[str, ...]
    lived_s: float
    cause: str = ""

    def __str__(self) -> str:
        if self.signal is not None:
            try:
                name = signal.Signals(self.signal).name
            except ValueError:
                name = f"signal {self.signal}"
            return f"killed by {name}"
        return f"exit code {self.exit_code}" if self.exit_code is not None else "unknown exit code"


class WorkerProcess:
    """A running ``python -m distributed.nanny.worker_process``.

    Parameters
    ----------
    config :
        Sent to the child over a private line: see ``worker_process.py`` for what it reads from it.
    variables :
        The child's environment.
    on_message :
        Gets each dict that the child sends.
    """

    def __init__(
        self, config: Mapping[str, Any], variables: Mapping[str, str], on_message: Callable[[dict[str, Any]], None]
    ) -> None:
        self.ended: asyncio.Future[ProcessEnd] = asyncio.get_running_loop().create_future()
        self.started_at = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._owner = os.getpid()
        self._on_message = on_message
        self._reader = MessageReader()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        # Of what faulthandler prints at a crash: the first line, and the stack of the thread at fault.
        self._fatal: list[str] = []
        self._in_stack = False
        self._partial = b""
        self._cause = ""
        self._pidfd = -1
        self._outgoing = bytearray()
        spawned = spawning.take(variables)
        self.page, self._popen, self._line = spawned.page, spawned.popen, spawned.line
        assert self._popen.stderr is not None
        self._stderr_fd = self._popen.stderr.fileno()
        self._loop.add_reader(self._stderr_fd, self._read_stderr)
        self._loop.add_reader(self._line.fileno(), self._read_line)
        self._watch()
        self.send({**config, "page_fd": self.page.fd})

    @property
    def pid(self) -> int:
        return self._popen.pid

    def is_alive(self) -> bool:
        """Whether the process has not ended, as far as we have seen."""
        return not self.ended.done()

    def __repr__(self) -> str:
        return f"<WorkerProcess pid={self.pid}{'' if self.is_alive() else f' ended: {self.ended.result()}'}>"

    # -- talking

    def send(self, message: dict[str, Any]) -> None:
        """Send a dict to the child. What it does not take before it ends is lost."""
        self._outgoing += packed(message)
        self._write_line()

    def _write_line(self) -> None:
        fd = self._line.fileno()
        if fd < 0:
            return
        while self._outgoing:
            try:
                sent = self._line.send(self._outgoing)
            except BlockingIOError:
                self._loop.add_writer(fd, self._write_line)
                return
            except OSError:
                self._outgoing.clear()
                break
            del self._outgoing[:sent]
        self._loop.remove_writer(fd)

    def _read_line(self) -> None:
        try:
            data = self._line.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._line.fileno())
            return
        for message in self._reader.feed(data):
            self._on_message(message)

    def _read_stderr(self) -> bool:
        """Pass on what the child wrote, and keep the last lines; whether there may be more."""
        try:
            data = os.read(self._stderr_fd, 1 << 16)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._stderr_fd)
            return False
        with contextlib.suppress(OSError):
            os.write(2, data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._partial = self._partial[-4096:]
        for line in lines:
            self._keep_line(line)
        return True

    def _keep_line(self, line: bytes) -> None:
        text = line[-2000:].decode("utf-8", "replace")
        self._tail.append(text)
        if line.startswith(_FATAL):
            self._fatal = [text]
        elif self._fatal and _CRASHED.match(text):
            self._in_stack = True
        elif not line:
            self._in_stack = False
        if self._in_stack and len(self._fatal) < FATAL_LINES:
            self._fatal.append(text)

    def _last_lines(self) -> tuple[str, ...]:
        """The last of what the process has written; the stacks of many threads do not push out the one that crashed."""
        lines = list(self._tail)
        if self._fatal and not set(self._fatal).issubset(lines):
            lines = [*self._fatal, "...", *lines[FATAL_LINES + 1 - TAIL_LINES :]]
        return tuple(lines)

    def _culprits(self, crashed: bool) -> tuple[int, ...] | None:
        """The runs of the thread that ended the process; None when no thread of a slot is known to have done so."""
        ident = self.page.exiting
        if crashed and not ident:
            found = next(filter(None, map(_CRASHED.match, self._fatal)), None)
            ident = int(found[1], 16) if found else 0
        return self.page.runs_of(ident) or None

    # -- ending

    async def stop(self, reason: str, timeout: float = 5.0) -> ProcessEnd:
        """Ask the worker to close; kill the process when that takes longer than ``timeout`` seconds."""
        if self.is_alive():
            self.send({"op": "close", "reason": reason})
            done, _ = await asyncio.wait([self.ended], timeout=timeout)
            if not done:
                logger.warning("Worker process %d still alive after %.1f s, killing", self.pid, timeout)
        return await self.kill()

    def kill_now(self, cause: str = "") -> None:
        """End the process at once; ``cause`` goes into the report of its end."""
        if self.is_alive():
            self._cause = self._cause or cause
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def kill(self) -> ProcessEnd:
        """End the process at once, and wait until it is collected."""
        self.kill_now()
        return await asyncio.shield(self.ended)

    def end_now(self, reason: str, timeout: float) -> bool:
        """End the process without the event loop; True when it had to be killed. For the end of this program.

        A copy of this program that a task has made does not own the process, and leaves it alone.
        """
        if os.getpid() != self._owner:
            return False
        deadline = time.monotonic() + timeout
        with contextlib.suppress(OSError):
            self._line.settimeout(timeout)
            self._line.sendall(bytes(self._outgoing) + packed({"op": "close", "reason": reason}))
        while not self._gone():
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signal.SIGKILL)
                return True
            time.sleep(0.01)
        return False

    def _gone(self) -> bool:
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            return True

    def _watch(self) -> None:
        if hasattr(os, "pidfd_open"):
            try:
                self._pidfd = os.pidfd_open(self.pid)
            except OSError:
                pass
            else:
                self._loop.add_reader(self._pidfd, self._collect)
                return
        threading.Thread(target=self._wait_in_thread, name="nanny-watch", daemon=True).start()

    def _wait_in_thread(self) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        if self.ended.done():
            return
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        exit_code: int | None = None
        number: int | None = None
        peak = 0
        try:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        except ChildProcessError:  # collected by somebody else in this process
            code = self._popen.poll()
            exit_code, number = (code, None) if code is None or code >= 0 else (None, -code)
        else:
            if pid == 0:
                self._watch()
                return
            if os.WIFSIGNALED(status):
                number = os.WTERMSIG(status)
            else:
                exit_code = os.waitstatus_to_exitcode(status)
            peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            self._popen.returncode = exit_code if number is None else -number
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # what tasks have left running
        executing = self.page.run_ids()
        while self._read_stderr():
            pass
        if self._partial:
            self._keep_line(self._partial)
        culprits = self._culprits(number in _CRASHES)
        self._read_line_rest()
        self._let_go()
        self.ended.set_result(
            ProcessEnd(
                self.pid,
                exit_code,
                number,
                executing,
                culprits,
                peak,
                self._last_lines(),
                time.monotonic() - self.started_at,
                self._cause,
            )
        )

    def _read_line_rest(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._line.recv(1 << 18):
                for message in self._reader.feed(data):
                    self._on_message(message)

    def _let_go(self) -> None:
        self._loop.remove_reader(self._stderr_fd)
        self._loop.remove_reader(self._line.fileno())
        self._loop.remove_writer(self._line.fileno())
        self._line.close()
        assert self._popen.stderr is not None
        self._popen.stderr.close()
        self.page.close()
