"""Daemons of an engine: started in the foreground, as children, so that their end is certain; and free ports."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path


class Daemons:
    """Running programs, each with a log in ``folder``."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.environment = folder, dict(environment)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, cwd=self.folder
            )

    def wait_for(self, fact: Callable[[], bool], what: str, limit_s: float = 60) -> None:
        """Until ``fact`` holds; ``RuntimeError`` with the logs if a program ends or it never does."""
        deadline = time.monotonic() + limit_s
        while not fact():
            ended = [name for name, process in self._running.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = "\n".join(f"--- {name}\n{self.log(name)}" for name in self._running)
                raise RuntimeError(f"{what}: not so; ended: {ended}\n{logs}")
            time.sleep(0.1)

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.out").read_text(errors="replace")[-2000:]

    def stop(self, name: str, limit_s: float = 15) -> None:
        process = self._running.pop(name)
        process.terminate()
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        for name in reversed(list(self._running)):
            self.stop(name)


def free_ports(n: int) -> list[int]:
    """That many ports in a row."""
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            base = int(first.getsockname()[1])
            try:
                for port in range(base + 1, base + n):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except (OSError, OverflowError):
                continue
            return list(range(base, base + n))
