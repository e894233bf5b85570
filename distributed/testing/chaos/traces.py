"""What a cluster leaves behind: processes, threads, sockets, files. Linux only."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from distributed.comm import secrets
from distributed.testing.chaos.tally import Tally

__all__ = ["OwnDirectories", "Traces"]

MARK = "DISTRIBUTED_CHAOS_RUN"
"""Environment variable by which processes of a run are found again when their parents are gone."""
_LASTING_THREADS = ("asyncio_", "ThreadPool")


class OwnDirectories:
    """Temporary, runtime and secret-store directories of this run alone, in the environment of its processes too."""

    def __init__(self) -> None:
        # Short: paths of unix sockets must be.
        self.path = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> OwnDirectories:
        values = {MARK: self.path.name}
        names = {"runtime": "XDG_RUNTIME_DIR", "store": secrets.ENV_STORE, "tmp": "TMPDIR"}
        for name, variable in names.items():
            directory = self.path / name
            directory.mkdir(mode=0o700)
            values[variable] = str(directory)
        for variable, value in values.items():
            self._before[variable] = os.environ.get(variable)
            os.environ[variable] = value
        tempfile.tempdir = None
        return self

    def __exit__(self, *exc_info: object) -> None:
        for variable, value in self._before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value
        tempfile.tempdir = None
        shutil.rmtree(self.path, ignore_errors=True)

    def files(self) -> list[str]:
        """Files, and directories of workers."""
        return sorted(
            str(path) for path in self.path.rglob("*") if not path.is_dir() or "dask-scratch-space" in str(path)
        )

    def processes(self) -> list[str]:
        """Processes that were started with our environment."""
        mark = f"{MARK}={self.path.name}".encode()
        found = []
        for pid in psutil.pids():
            if pid == os.getpid():
                continue
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    process = psutil.Process(pid)
                    found.append(f"{pid} ({process.status()}) {' '.join(process.cmdline())}")
        return found

    def unix_sockets(self) -> list[str]:
        """Names of sockets, abstract ones too, that belong to our directories or are bound there."""
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
            return [line.split()[-1] for line in file if str(self.path) in line]


class Traces:
    """What there is in this process before a cluster, to be compared with what there is afterwards."""

    def __init__(self, own: OwnDirectories) -> None:
        self.own = own
        self.process = psutil.Process()
        self.threads = set(threading.enumerate())
        self.sockets = self._connections()

    def _connections(self) -> set[str]:
        return {
            f"fd {c.fd} {c.laddr} -> {c.raddr}"
            for kind in ("inet", "unix")
            for c in self.process.net_connections(kind=kind)
        }

    def _left(self) -> Iterator[tuple[str, list[str]]]:
        yield "leaked processes", self.own.processes()
        threads = [t for t in threading.enumerate() if t not in self.threads and t.is_alive()]
        yield "leaked threads", [repr(t) for t in threads if not t.name.startswith(_LASTING_THREADS)]
        yield "leaked sockets", [*sorted(self._connections() - self.sockets), *self.own.unix_sockets()]
        yield "leaked files", self.own.files()

    def check(self, tally: Tally, grace_s: float = 10.0, history: str = "") -> None:
        """Note what is left, and what had happened. Processes and files of killed programs get ``grace_s`` seconds to
        go."""
        deadline = time.monotonic() + grace_s
        while any(things for _, things in self._left()) and time.monotonic() < deadline:
            time.sleep(0.1)
        for kind, things in self._left():
            for thing in things:
                tally.violation(kind, f"{thing}\n{history}")
        for line in self.own.processes():
            with contextlib.suppress(OSError):
                os.kill(int(line.split()[0]), 9)


def open_descriptors() -> int:
    """How many file descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def list_descriptors() -> str:
    """What they are, for reports."""
    return subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, check=False).stdout
