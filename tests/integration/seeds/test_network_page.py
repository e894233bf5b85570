"""S42-S59: the command lines of the network page, old and new names."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed import Client
from distributed.testing import inc, open_port

MODULES = {"scheduler": "distributed.cli.dask_scheduler", "worker": "distributed.cli.dask_worker"}


class Runner:
    """Starts programs as a user would; ends them all."""

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[str]] = []

    def __call__(self, name: str, *args: str, **kwargs: Any) -> subprocess.Popen[str]:
        """``name`` as an installed script when there is one, else its module under that name."""
        script = os.path.join(os.path.dirname(sys.executable), name)
        if os.path.exists(script):
            command = [script]
        else:
            module = MODULES["scheduler" if "scheduler" in name else "worker"]
            command = [sys.executable, "-c", f"import {module} as m; m.main(prog_name={name!r})"]
        process = subprocess.Popen([*command, *args], stderr=subprocess.PIPE, text=True, **kwargs)
        self.running.append(process)
        return process

    def end(self) -> None:
        for process in reversed(self.running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in reversed(self.running):
            try:
                process.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


@pytest.fixture
def run() -> Iterator[Runner]:
    runner = Runner()
    try:
        yield runner
    finally:
        runner.end()


def said(process: subprocess.Popen[str], words: str, timeout: float = 30) -> str:
    """What a program says after ``words``."""
    assert process.stderr is not None
    lines = []
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        line = process.stderr.readline()
        if not line:
            break
        lines.append(line)
        found = re.search(re.escape(words) + r":? +(\S+)", line)
        if found:
            return found.group(1)
    raise AssertionError(f"{words!r} not in {lines}")


def counts(address: str, n_workers: int) -> None:
    with Client(address, timeout="10s") as client:
        client.wait_for_workers(n_workers, timeout=20)
        assert client.gather(client.map(inc, range(10))) == list(range(1, 11))


def test_s42_s43_s44_s52_s64_one_scheduler_many_workers(run: Runner) -> None:
    port = open_port("127.0.0.1")
    scheduler = run("dask-scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    address = said(scheduler, "Start scheduler at")
    assert address == f"tcp://127.0.0.1:{port}"
    worker_port = open_port("127.0.0.1")
    options = ["--nthreads", "1", "--no-dashboard"]
    first = run("dask-worker", address, *options, "--worker-port", str(worker_port))
    second = run("dask-worker", f"127.0.0.1:{port}", *options, "--no-nanny")
    at = said(first, "Start worker at")
    assert at.endswith(f":{worker_port}")
    assert said(first, "Registered with Scheduler at") == address
    assert said(second, "Start worker at").startswith("tcp://")
    assert said(second, "Registered with Scheduler at") == address
    counts(address, 2)
    # S64: a killed worker does no harm
    second.kill()
    with Client(address, timeout="10s") as client:
        assert client.gather(client.map(inc, range(10, 20))) == list(range(11, 21))


def test_s45_s46_names_of_2016(run: Runner) -> None:
    port = open_port("127.0.0.1")
    scheduler = run("dscheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    address = said(scheduler, "Start scheduler at")
    worker = run("dworker", f"127.0.0.1:{port}", "--no-nanny", "--no-dashboard")
    said(worker, "Start worker at")
    assert said(worker, "Registered with center at") == address
    counts(address, 1)


def test_s52_s53_s54_help_lists_ports() -> None:
    for role, expected in (("scheduler", ["--port", "8786", "8787"]), ("worker", ["--worker-port", "--nanny-port"])):
        done = subprocess.run(
            [sys.executable, "-m", MODULES[role], "--help"], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0
        for word in expected:
            assert word in done.stdout


def test_s55_to_s59_scheduler_file(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    # S56: an array job, whose tasks may start before the scheduler, each with the very same command
    options = ["--scheduler-file", str(path)]
    workers = [run("dask-worker", *options, "--no-nanny", "--nthreads", "1", "--no-dashboard") for _ in range(2)]
    scheduler = run("dask-scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *options)
    address = said(scheduler, "Start scheduler at")
    for worker in workers:
        assert said(worker, "Registered with Scheduler at") == address
    assert json.loads(path.read_text())["address"] == address
    # S57
    client = Client(scheduler_file=str(path))
    try:
        client.wait_for_workers(2, timeout=20)
        assert client.submit(inc, 1).result(timeout=10) == 2
    finally:
        client.close()


def test_s58_installed_scripts_have_any_path(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("dask-scheduler")
    if not script.exists():
        pytest.skip("the package is not installed here")
    copy = tmp_path / "elsewhere" / "dask-scheduler"
    copy.parent.mkdir()
    shutil.copy(script, copy)
    done = subprocess.run([str(copy), "--version"], capture_output=True, text=True, timeout=30, cwd="/")
    assert done.returncode == 0
