"""Signals to programs: the first means an orderly end, the second a fast one, the third one now; nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from distributed import Client, fire_and_forget
from distributed.testing import poll_for
from tests.integration.cli.test_programs import SCHEDULER, WORKER, Program, running

pytestmark = pytest.mark.usefixtures("private_places")

STORM = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@dataclass
class Place:
    """A program, and the directories in which it leaves nothing."""

    program: Program
    pids: list[int]
    directories: list[Path]

    @property
    def pid(self) -> int:
        return self.program.process.pid

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.program.process.send_signal(number)

    def ends(self, codes: set[int], within_s: float = 15) -> str:
        """The program's text, once it has ended with one of these codes and nothing is left of it."""
        code, text = self.program.end_by_itself(within_s)
        assert code in codes, (code, text)
        assert "Traceback" not in text, text
        poll_for(lambda: not any(psutil.pid_exists(pid) for pid in self.pids), 5)
        assert not self.left(), (self.left(), text)
        return text

    def left(self) -> list[str]:
        return [str(path) for directory in self.directories for path in directory.glob("*")]


@contextlib.contextmanager
def place(kind: str, tmp_path: Path, busy: bool = False) -> Iterator[Place]:
    """A scheduler, a worker with a nanny ("nanny") or one without ("worker"); ``busy``: with a task without end."""
    directories = [tmp_path / "runtime", tmp_path / "files"]
    env = {**os.environ, "DASK_DISTRIBUTED__RUNTIME_DIRECTORY": str(tmp_path / "runtime")}
    for directory in directories:
        directory.mkdir(mode=0o700)
    scheduler_args = [*SCHEDULER, "--host", "127.0.0.1", "--port", "0"]
    if kind == "scheduler":
        scheduler_args += ["--scheduler-file", str(tmp_path / "files" / "s.json"), "--pid-file",
                           str(tmp_path / "files" / "pid")]  # fmt: skip
        with running(scheduler_args, env=env) as program:
            program.line("Start scheduler at")
            yield Place(program, [program.process.pid], directories)
        return
    with running(scheduler_args) as scheduler:
        address = scheduler.line(r"Start scheduler at: +(\S+)")
        flag = "--nanny" if kind == "nanny" else "--no-nanny"
        args = [*WORKER, address, flag, "--nthreads", "1", "--local-directory", str(tmp_path / "files")]
        with running(args, env=env) as program:
            program.line(r"Registered to")
            program.line(r"Registered with")
            process = psutil.Process(program.process.pid)
            one = Place(program, [process.pid, *[c.pid for c in process.children(recursive=True)]], directories)
            assert one.left()
            if busy:
                with Client(address) as client:
                    fire_and_forget(client.submit(time.sleep, 600))
                    poll_for(lambda: any(client.processing().values()), 10)
                    yield one
            else:
                yield one


@pytest.mark.parametrize("kind", ["scheduler", "nanny", "worker"])
def test_a_storm_is_one_orderly_end(kind: str, tmp_path: Path) -> None:
    with place(kind, tmp_path) as it:
        for i in range(50):
            it.send(STORM[i % 3])
        text = it.ends({128 + number for number in STORM})
    assert text.count("Received signal") == 1, text
    assert f"End {'scheduler' if kind == 'scheduler' else 'worker'}" in text


@pytest.mark.parametrize(
    ("kind", "number"), [("scheduler", signal.SIGHUP), ("nanny", signal.SIGINT), ("worker", signal.SIGTERM)]
)
def test_one_signal(kind: str, number: int, tmp_path: Path) -> None:
    with place(kind, tmp_path) as it:
        it.send(number)
        assert f"Received signal {signal.Signals(number).name}" in it.ends({128 + number})


@pytest.mark.parametrize("kind", ["nanny", "worker"])
def test_one_signal_while_a_task_runs(kind: str, tmp_path: Path) -> None:
    """The task is given up, not waited for."""
    with place(kind, tmp_path, busy=True) as it:
        begin = time.monotonic()
        it.send(signal.SIGTERM)
        it.ends({128 + signal.SIGTERM})
        assert time.monotonic() - begin < 12


HANGS = """
import asyncio
async def dask_setup(server):
    pass
async def dask_teardown(server):
    print("teardown begins", flush=True)
    await asyncio.sleep(600)
"""


@pytest.mark.parametrize(("kind", "n_signals"), [("scheduler", 3), ("nanny", 2), ("nanny", 3), ("worker", 2)])
def test_more_signals_when_the_orderly_end_takes_long(kind: str, n_signals: int, tmp_path: Path) -> None:
    preload = tmp_path / "hangs.py"
    preload.write_text(HANGS)
    arguments = ["--preload-nanny" if kind == "nanny" else "--preload", str(preload)]
    before = SCHEDULER[:], WORKER[:]
    (SCHEDULER if kind == "scheduler" else WORKER).extend(arguments)
    try:
        with place(kind, tmp_path) as it:
            SCHEDULER[:], WORKER[:] = before
            begin = time.monotonic()
            for _ in range(n_signals):
                it.send(signal.SIGTERM)
                time.sleep(0.3)  # apart, as a person would send them: what comes in a bunch is one
            it.ends({128 + signal.SIGTERM}, 10)
            # Half a second for the second signal, a second more for a worker process, and the machine.
            assert time.monotonic() - begin < 8
    finally:
        SCHEDULER[:], WORKER[:] = before


def test_hangup_is_passed_over_under_nohup(tmp_path: Path) -> None:
    args = ["nohup", *SCHEDULER, "--host", "127.0.0.1", "--port", "0"]
    with running(args) as program:
        program.line("Start scheduler at")
        program.process.send_signal(signal.SIGHUP)
        program.process.send_signal(signal.SIGTERM)
        code, text = program.end_by_itself()
    assert code == 128 + signal.SIGTERM and "SIGTERM" in text and "SIGHUP" not in text, text
