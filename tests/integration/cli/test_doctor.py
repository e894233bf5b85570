"""``dask-doctor`` on clusters that are well, and on each thing that can be in the way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed.comm import secrets
from distributed.testing import open_port
from tests.integration.cli.test_programs import SCHEDULER, WORKER, Program, running

DOCTOR = [sys.executable, "-m", "distributed.cli.dask_doctor"]


def doctor(*args: str, **env: str) -> tuple[int, str]:
    done = subprocess.run([*DOCTOR, *args], capture_output=True, text=True, timeout=60, env={**os.environ, **env})
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(autouse=True)
def private(private_places: None) -> None:
    """All tests of this file."""


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    args = [*SCHEDULER, "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(tmp_path / "s.json")]
    with running(args) as program:
        yield program.line(r"Start scheduler at: +(\S+)")


def registered(program: Program) -> None:
    program.line("Registered with Scheduler")


def test_all_is_well_and_a_stopped_worker(scheduler: str, tmp_path: Path) -> None:
    with (
        running([*WORKER, scheduler, "--name", "a", "--nthreads", "1"]) as a,
        running([*WORKER, scheduler, "--name", "b", "--nthreads", "1", "--no-nanny"]) as b,
    ):
        registered(a)
        registered(b)
        code, text = doctor("--scheduler-file", str(tmp_path / "s.json"), **{secrets.ENV_STORE: str(tmp_path / "no")})
        assert code == 0, text
        for direction in (
            "here -> scheduler", "here -> worker a", "here -> nanny of a", "scheduler -> worker b",
            "scheduler -> nanny of a", f"-> scheduler {scheduler}", "versions",
        ):  # fmt: skip
            assert f"{direction}" in text
        lines = text.splitlines()
        assert any(line.startswith("ok    worker a") and "-> worker b" in line for line in lines)
        assert any(line.startswith("ok    worker b") and "-> worker a" in line for line in lines)
        assert lines[-1] == f"All {len(lines) - 1} checks are well"
        os.kill(b.process.pid, signal.SIGSTOP)
        try:
            code, text = doctor(scheduler, "--timeout", "0.5", "--quiet")
        finally:
            os.kill(b.process.pid, signal.SIGCONT)
        assert code == 1
        assert "FAIL  here -> worker b" in text
        assert "process: it accepts connections and then says nothing" in text
        assert "process: it is registered and does not answer" in text
        assert "ok " not in text


def test_a_worker_that_tells_others_a_wrong_address(scheduler: str) -> None:
    port = open_port("127.0.0.1")
    wrong = f"tcp://127.0.0.9:{port + 1 if port < 65535 else port - 1}"
    with running(
        [*WORKER, scheduler, "--no-nanny", "--name", "w", "--host", "127.0.0.1", "--contact-address", wrong]
    ) as w:
        registered(w)
        code, text = doctor(scheduler)
    assert code == 1
    assert "FAIL  here -> worker w" in text
    assert "FAIL  scheduler -> worker w" in text
    assert "port: nobody listens at port" in text
    assert "loopback address" in text


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("tcp://no.such.host.invalid:8786", "address: unknown host 'no.such.host.invalid'"),
        ("tcp://127.0.0.1:1", "port: nobody listens at port 1 of 127.0.0.1"),
    ],
)
def test_no_scheduler_there(address: str, text: str) -> None:
    code, said = doctor(address)
    assert code == 1
    assert f"FAIL  here -> scheduler {address}  {text}" in said


def test_secret_version_and_silence(scheduler: str, tmp_path: Path) -> None:
    code, text = doctor(scheduler, **{secrets.ENV_STORE: str(tmp_path / "no")})
    assert code == 1
    assert "  secret: " in text
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        code, text = doctor(f"tcp://127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.3")
    assert code == 1
    assert "  process: it accepts connections and then says nothing for 0.3 s" in text
    program = (
        "import http.server as h\n"
        "s = h.HTTPServer(('127.0.0.1', 0), h.BaseHTTPRequestHandler)\n"
        "print(s.server_port, flush=True); s.serve_forever()"
    )
    with running([sys.executable, "-c", program]) as web:
        assert web.process.stdout is not None
        code, text = doctor(f"tcp://127.0.0.1:{int(web.process.stdout.readline())}", "--timeout", "5")
    assert code == 1
    assert "  version: " in text or "  process: " in text


def test_a_firewall() -> None:
    """A port whose queue of connections is full drops what comes, as a firewall does."""
    with socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        code, text = doctor(f"tcp://127.0.0.1:{full.getsockname()[1]}", "--timeout", "0.5")
    assert code == 1
    assert "  firewall: no answer from port" in text


def test_usage(tmp_path: Path) -> None:
    code, text = doctor("--scheduler-file", str(tmp_path / "none"))
    assert code == 1 and "--scheduler-file" in text and text.count("\n") == 1
    code, text = doctor(DASK_SCHEDULER_ADDRESS="")
    assert code == 2 and "no scheduler" in text
