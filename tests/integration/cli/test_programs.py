"""The command lines as programs: what they print, how they find each other, how they end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from distributed import Client, rpc
from distributed.testing import inc, open_port, poll_for

SCHEDULER = [
    sys.executable,
    "-m",
    "distributed.cli.dask_scheduler",
    "--no-dashboard",
    "--dashboard-address",
    "127.0.0.1:0",
]
WORKER = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-dashboard"]


def _hear_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests themselves run under nohup


class Program:
    """A running program whose stderr is read line by line."""

    def __init__(self, args: list[str], **kwargs: Any) -> None:
        self.process = subprocess.Popen(
            args, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=_hear_hangups, **kwargs
        )
        self.lines: list[str] = []

    def line(self, pattern: str, timeout: float = 60) -> str:
        """The first group of the first line that matches."""
        assert self.process.stderr is not None
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            text = self.process.stderr.readline()
            if not text:
                break
            self.lines.append(text)
            found = re.search(pattern, text)
            if found:
                return found.group(1) if found.groups() else found.group()
        raise AssertionError(f"{pattern!r} not found in:\n{''.join(self.lines)}")

    def end_by_itself(self, timeout: float = 60) -> tuple[int, str]:
        """Exit code, and everything on stderr, of a program that ends without being told."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, "".join(self.lines) + err + out

    def end(self, number: int = signal.SIGTERM, timeout: float = 45) -> tuple[int, str]:
        """Exit code, and everything on stderr."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, "".join(self.lines) + err + out


@contextlib.contextmanager
def running(args: list[str], **kwargs: Any) -> Iterator[Program]:
    program = Program(args, **kwargs)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            for child in psutil.Process(program.process.pid).children(recursive=True):
                child.kill()
            program.process.kill()
        program.process.communicate()


@pytest.mark.usefixtures("default_ports")
def test_scheduler_worker_and_client_on_the_default_port() -> None:
    with contextlib.closing(socket.socket()) as probe:
        if probe.connect_ex(("127.0.0.1", 8786)) == 0:
            pytest.skip("port 8786 is in use on this machine")
    with running(SCHEDULER) as scheduler:
        assert scheduler.line(r"Start scheduler at: +(\S+)").endswith(":8786")
        assert any(re.search(r" Scheduler at: +tcp://\S+:8786", line) for line in scheduler.lines)
        with running([*WORKER, "tcp://127.0.0.1:8786", "--nthreads", "2", "--name", "alice"]) as worker:
            at = worker.line(r"Start worker at: +(\S+)")
            assert worker.line(r"Registered to: +(\S+)") == "tcp://127.0.0.1:8786"
            assert worker.line(r"Registered with Scheduler at: +(\S+)") == "tcp://127.0.0.1:8786"
            with Client("tcp://127.0.0.1:8786", timeout=30) as client:
                assert client.submit(inc, 1).result(timeout=30) == 2
                (info,) = client.scheduler_info()["workers"].values()
                assert info["name"] == "alice"
                assert info["nthreads"] == 2
                assert list(client.scheduler_info()["workers"]) == [at]
            children = psutil.Process(worker.process.pid).children(recursive=True)
            code, text = worker.end()
            assert code == 128 + signal.SIGTERM
            assert "End worker" in text
            psutil.wait_procs(children, timeout=30)
            assert not any(child.is_running() for child in children)
        code, text = scheduler.end(signal.SIGINT)
        assert code == 128 + signal.SIGINT
        assert "End scheduler" in text
        assert "Traceback" not in text


def test_scheduler_file_is_private_waited_for_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    common = ["--scheduler-file", str(path)]
    with running([*WORKER, *common, "--no-nanny", "--nthreads", "1"]) as early:
        early.line(r"Waiting for the scheduler file")
        with running([*SCHEDULER, "--host", "127.0.0.1", "--port", "0", *common]) as scheduler:
            address = scheduler.line(r"Start scheduler at: +(\S+)")
            assert early.line(r"Registered to: +(\S+)") == address
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert json.loads(path.read_text())["address"] == address
            with Client(scheduler_file=str(path)) as client:
                assert client.submit(inc, 1).result(timeout=10) == 2
            code, _ = early.end(signal.SIGINT)
            assert code == 128 + signal.SIGINT
            code, _ = scheduler.end()
            assert code == 128 + signal.SIGTERM
    assert not path.exists()


def test_several_workers_with_options(tmp_path: Path) -> None:
    port = open_port("127.0.0.1")
    with running(
        [*SCHEDULER, "--host", "127.0.0.1", "--port", str(port), "--pid-file", str(tmp_path / "s.pid")]
    ) as scheduler:
        scheduler.line(r"Start scheduler at")
        assert int((tmp_path / "s.pid").read_text()) == scheduler.process.pid
        options = [
            "--nworkers",
            "2",
            "--nthreads",
            "1",
            "--name",
            "bob",
            "--memory-limit",
            "1GB",
            "--resources",
            "GPU=2",
        ]
        with running([*WORKER, f"127.0.0.1:{port}", *options, "--local-directory", str(tmp_path)]) as workers:
            workers.line(r"Registered to")
            workers.line(r"Registered to")
            with Client(f"tcp://127.0.0.1:{port}") as client:
                infos = list(client.scheduler_info()["workers"].values())
                assert {info["name"] for info in infos} == {"bob-0", "bob-1"}
                assert {info["memory_limit"] for info in infos} == {10**9}
                assert {info["nthreads"] for info in infos} == {1}
                assert all(info["resources"] == {"GPU": 2} for info in infos)
                assert all(info["local_directory"].startswith(str(tmp_path)) for info in infos)
                assert len(set(client.run(os.getpid).values())) == 2
            code, text = workers.end()
            assert code == 128 + signal.SIGTERM, text
        code, _ = scheduler.end()
        assert code == 128 + signal.SIGTERM
        assert not (tmp_path / "s.pid").exists()


def test_terminate_by_rpc() -> None:
    with running([*SCHEDULER, "--host", "127.0.0.1", "--port", "0"]) as scheduler:
        address = scheduler.line(r"Start scheduler at: +(\S+)")
        with rpc(address) as remote:
            remote.terminate()
        scheduler.process.wait(10)
        assert scheduler.process.returncode == 0


def test_worker_ends_with_its_scheduler() -> None:
    with running([*SCHEDULER, "--host", "127.0.0.1", "--port", "0"]) as scheduler:
        address = scheduler.line(r"Start scheduler at: +(\S+)")
        with running([*WORKER, address, "--nthreads", "1", "--death-timeout", "5"]) as worker:
            worker.line(r"Registered to")
            scheduler.process.kill()
            worker.process.wait(20)
            assert worker.process.returncode == 0
            assert "End worker" in worker.end()[1]


def last_line(args: list[str], **kwargs: Any) -> tuple[int, str]:
    done = subprocess.run(args, capture_output=True, text=True, timeout=30, **kwargs)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.strip().splitlines()[-1]


def test_port_in_use() -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, line = last_line([*SCHEDULER, "--host", "127.0.0.1", "--port", str(port)])
    assert code == 1
    assert "in use" in line
    assert str(port) in line


@pytest.mark.parametrize("nanny", ["--nanny", "--no-nanny"])
def test_a_worker_may_start_before_its_scheduler(nanny: str, private_places: None) -> None:
    """Also where the user has another cluster, whose secret is not the right one."""
    port = str(open_port("127.0.0.1"))
    with running([*SCHEDULER, "--host", "127.0.0.1", "--port", "0"]) as other:
        other.line(r"Start scheduler at")
        with running([*WORKER, f"tcp://127.0.0.1:{port}", nanny, "--nthreads", "1"]) as worker:
            worker.line("cannot be reached yet")
            with running([*SCHEDULER, "--host", "127.0.0.1", "--port", port]) as scheduler:
                scheduler.line(r"Start scheduler at")
                worker.line("Registered with Scheduler")
                worker.end()


def test_scheduler_file_that_is_not_safe(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text(json.dumps({"address": "tcp://127.0.0.1:1", "secret": "x" * 32}))
    path.chmod(0o644)
    code, line = last_line([*WORKER, "--scheduler-file", str(path), "--no-nanny"])
    assert code == 1
    assert "chmod" in line


def test_scheduler_file_in_a_missing_directory(tmp_path: Path) -> None:
    code, line = last_line(
        [*SCHEDULER, "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(tmp_path / "no" / "s")]
    )
    assert code == 1
    assert "no" in line


def test_nobody_there() -> None:
    port = open_port("127.0.0.1")
    begin = time.monotonic()
    code, line = last_line([*WORKER, f"tcp://127.0.0.1:{port}", "--no-nanny", "--death-timeout", "1"])
    assert code == 1
    assert str(port) in line or "scheduler" in line.lower()
    assert time.monotonic() - begin < 10


def test_scheduler_file_that_never_comes(tmp_path: Path) -> None:
    code, line = last_line([*WORKER, "--scheduler-file", str(tmp_path / "s.json"), "--death-timeout", "200ms"])
    assert code == 1
    assert "does not exist" in line


def test_preload_gets_the_service_and_its_own_options(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import click\n"
        "@click.command()\n"
        "@click.option('--word', default='none')\n"
        "def dask_setup(service, word):\n"
        "    print('setup', type(service).__name__, word, flush=True)\n"
        "def dask_teardown(service):\n"
        "    print('teardown', type(service).__name__, flush=True)\n"
    )
    args = [*SCHEDULER, "--host", "127.0.0.1", "--port", "0", "--preload", str(tmp_path / "mine.py"), "--word", "hello"]
    with running(args) as scheduler:
        scheduler.line(r"Start scheduler at")
        code, text = scheduler.end()
        assert code == 128 + signal.SIGTERM
        assert "setup Scheduler hello" in text
        assert "teardown Scheduler" in text


def test_second_signal_is_immediate() -> None:
    with running([*SCHEDULER, "--host", "127.0.0.1", "--port", "0"]) as scheduler:
        scheduler.line(r"Start scheduler at")
        scheduler.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(ProcessLookupError):
            scheduler.process.send_signal(signal.SIGTERM)
        scheduler.process.wait(10)
        assert scheduler.process.returncode in (0, 128 + signal.SIGTERM)


def test_dask_command_has_our_subcommands() -> None:
    done = subprocess.run([sys.executable, "-m", "dask", "--help"], capture_output=True, text=True, timeout=30)
    if "scheduler" not in done.stdout:
        pytest.skip("the package is not installed here, so its entry points are not seen")
    done = subprocess.run(
        [sys.executable, "-m", "dask", "worker", "--help"], capture_output=True, text=True, timeout=30
    )
    assert "--nworkers" in done.stdout


def test_nobody_waits_for_a_free_port() -> None:
    with running([*SCHEDULER, "--host", "127.0.0.1", "--port", "0"]) as one:
        with running([*SCHEDULER, "--host", "127.0.0.1", "--port", "0"]) as two:
            assert one.line(r"Start scheduler at: +(\S+)") != two.line(r"Start scheduler at: +(\S+)")
            poll_for(lambda: one.process.poll() is None and two.process.poll() is None, timeout=1)
