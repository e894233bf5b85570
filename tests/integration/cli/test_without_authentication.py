"""``--no-auth`` and ``--insecure-listen``: what is refused, with which words, and that nothing was listened at."""

from __future__ import annotations

import re
import socket
import subprocess

import psutil
import pytest

from distributed import Client
from distributed.comm.addressing import get_ip
from distributed.testing import inc
from tests.integration.cli.test_programs import SCHEDULER, WORKER, running

NO_AUTH = {"distributed.auth.required": False}


@pytest.fixture(autouse=True)
def private(private_places: None) -> None:
    """All tests of this file."""


def ends(args: list[str], **env: str) -> tuple[int, list[str]]:
    """Exit code and the lines of errors of a program that does not start."""
    done = subprocess.run(args, capture_output=True, text=True, timeout=30)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [line for line in done.stderr.splitlines() if not re.match(r"[\d-]{10} ", line)]


def listened_at(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="default"),
        pytest.param(["--host", "0.0.0.0"], id="all interfaces"),
        pytest.param(["--host", "127.0.0.1", "--dashboard-address", "0.0.0.0:0"], id="pages"),
    ],
)
def test_c4_17_no_auth_for_others_is_refused(options: list[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code, lines = ends([*SCHEDULER, "--port", str(port), *options, "--no-auth"])
    assert code == 2
    assert len(lines) == 1 and lines[0].startswith("Error: the scheduler did not start: "), lines
    assert "without authentication" in lines[0] and "--insecure-listen" in lines[0] and "127.0.0.1" in lines[0]
    assert not listened_at(port)


@pytest.mark.parametrize("nanny", ["--nanny", "--no-nanny"])
def test_c4_17_workers_too(nanny: str) -> None:
    code, lines = ends([*WORKER, "tcp://127.0.0.1:1", nanny, "--host", "0.0.0.0", "--no-auth"])
    assert code == 2 and len(lines) == 1 and "--insecure-listen" in lines[0], lines


def test_options_that_contradict() -> None:
    code, lines = ends([*SCHEDULER, "--insecure-listen"])
    assert code == 2 and lines == ["Error: --insecure-listen has a meaning only with --no-auth"]


def test_a_token_and_no_auth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__AUTH_TOKEN", "a token of the environment")
    code, lines = ends([*SCHEDULER, "--no-auth"])
    assert code == 2 and "a token in the environment" in lines[0] and "a token of" not in lines[0]


def test_an_open_cluster_on_loopback() -> None:
    import dask

    with running([*SCHEDULER, "--port", "0", "--host", "127.0.0.1", "--no-auth"]) as scheduler:
        address = scheduler.line(r"Start scheduler at: +(\S+)")
        with running([*WORKER, address, "--nthreads", "1", "--no-auth"]) as worker:
            worker.line(r"Registered to: +(\S+)")
            with dask.config.set(NO_AUTH), Client(address, timeout=30) as client:
                assert client.submit(inc, 1).result(timeout=10) == 2
            family = [psutil.Process(p.process.pid) for p in (scheduler, worker)]
            for process in [*family, *family[1].children(recursive=True)]:
                for found in process.net_connections("inet"):
                    assert found.status != psutil.CONN_LISTEN or found.laddr.ip == "127.0.0.1", process
        assert not [line for line in scheduler.lines if "WITHOUT" in line or "Note" in line]


def test_an_open_cluster_for_others_warns_at_each_start() -> None:
    with running([*SCHEDULER, "--port", "0", "--no-auth", "--insecure-listen"]) as scheduler:
        warning = scheduler.line(r"Listening at \S+ WITHOUT authentication: .*")
        assert "run code as this user" in warning
        address = scheduler.line(r"Start scheduler at: +(\S+)")
        assert get_ip() in address
