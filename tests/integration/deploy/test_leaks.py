"""After a cluster's end nothing of it is left: no process, thread, descriptor, socket or file; and the end is quick."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from distributed import Client, LocalCluster
from distributed.comm import secrets
from distributed.testing import inc, poll_for

pytestmark = pytest.mark.usefixtures("cleanup")


def files_in(*directories: str | os.PathLike[str]) -> set[str]:
    return {str(path) for directory in directories for path in Path(directory).rglob("*")}


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The runtime directory, the store of secrets and temporary files of this test, apart from everybody's."""
    # Paths of unix sockets must be short.
    short = Path(subprocess.check_output(["mktemp", "-d", "/tmp/leak-XXXXXX"], text=True).strip())
    for name in ("runtime", "store", "tmp"):
        short.joinpath(name).mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short / "runtime"))
    monkeypatch.setenv(secrets.ENV_STORE, str(short / "store"))
    monkeypatch.setenv("TMPDIR", str(short / "tmp"))
    yield short
    left = sorted(str(path) for path in short.rglob("*") if not path.is_dir())
    subprocess.run(["rm", "-rf", str(short)], check=True)
    assert left == []


class Traces:
    """What there is before a cluster, to be compared with what there is afterwards."""

    def __init__(self) -> None:
        self.process = psutil.Process()
        self.children = self.family()
        self.threads = set(threading.enumerate())
        self.sockets = self.connections()
        self.n_fds = self.process.num_fds()

    def family(self) -> set[int]:
        return {child.pid for child in self.process.children(recursive=True)}

    def connections(self) -> set[tuple[Any, ...]]:
        return {
            (connection.fd, str(connection.laddr), str(connection.raddr))
            for kind in ("inet", "unix")
            for connection in self.process.net_connections(kind=kind)
        }

    def assert_none(self) -> None:
        # Threads and sockets of this process, and what it has started, are gone when `close` returns.
        assert self.family() == self.children
        assert self.connections() - self.sockets == set()
        assert set(threading.enumerate()) <= self.threads
        assert self.process.num_fds() <= self.n_fds


@contextlib.contextmanager
def no_trace(directory: Path) -> Iterator[None]:
    scratch = directory / "scratch"
    scratch.mkdir()
    traces = Traces()
    yield
    traces.assert_none()
    assert files_in(scratch) == set()


def warm_up() -> None:
    """What is started once in a process and stays (the executor of loops, file descriptors of imports)."""
    with LocalCluster(1, processes=False, dashboard_address=":0") as cluster, Client(cluster) as client:
        client.submit(inc, 1).result()


VARIANTS = [
    pytest.param({"processes": True}, id="processes"),
    pytest.param({"processes": False}, id="threads"),
    pytest.param({"processes": False, "protocol": "tcp"}, id="threads-tcp"),
]


@pytest.mark.parametrize("options", VARIANTS)
def test_sync(options: dict[str, Any], own_directories: Path) -> None:
    warm_up()
    with no_trace(own_directories):
        scratch = str(own_directories / "scratch")
        options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", **options}
        with LocalCluster(local_directory=scratch, **options) as cluster, Client(cluster) as client:
            assert client.gather(client.map(inc, range(10))) == list(range(1, 11))
            assert client.submit(bytes, 3_000_000).result() == bytes(3_000_000)
            assert files_in(scratch)
            if options["processes"]:
                assert files_in(own_directories / "runtime")
            begin = time.monotonic()
        assert time.monotonic() - begin < 2.9  # before a process ends itself the hard way


@pytest.mark.parametrize("options", VARIANTS)
def test_async(options: dict[str, Any], own_directories: Path) -> None:
    warm_up()

    async def work() -> None:
        scratch = str(own_directories / "scratch")
        keywords: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", **options}
        async with (
            LocalCluster(local_directory=scratch, asynchronous=True, **keywords) as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            assert await client.gather(client.map(inc, range(10))) == list(range(1, 11))
            assert files_in(scratch)
            begin = time.monotonic()
        assert time.monotonic() - begin < 2.9  # before a process ends itself the hard way
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with no_trace(own_directories):
        asyncio.run(work())


def test_busy_workers_do_not_delay_the_end(own_directories: Path) -> None:
    warm_up()
    with no_trace(own_directories):
        options: dict[str, Any] = {"local_directory": str(own_directories / "scratch"), "dashboard_address": None}
        with LocalCluster(2, threads_per_worker=1, **options) as cluster, Client(cluster) as client:
            futures = client.map(time.sleep, [600] * 4, pure=False)
            poll_for(lambda: sum(map(len, client.processing().values())) >= 2)
            begin = time.monotonic()
        assert time.monotonic() - begin < 4
        assert {future.status for future in futures} == {"cancelled"}


def test_a_cluster_that_cannot_start(own_directories: Path) -> None:
    warm_up()
    with no_trace(own_directories):
        with pytest.raises(RuntimeError, match="failed to start"):
            LocalCluster(2, dashboard_address=None, resources="GPU", local_directory=str(own_directories / "scratch"))


SCRIPT = """
import os, sys, time
from distributed import Client, LocalCluster

def square(x):
    return x ** 2

cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
client = Client(cluster)
print(sum(client.gather(client.map(square, range(10)))), *client.run(os.getpid).values(), flush=True)
{ending}
"""


def start_script(directory: Path, ending: str = "") -> subprocess.Popen[str]:
    """A script without a main guard, in a session of its own so that a signal reaches it and its children only."""
    path = directory / "tmp" / "script.py"
    path.write_text(textwrap.dedent(SCRIPT).format(ending=ending))
    pipe = subprocess.PIPE
    options: dict[str, Any] = {"stdout": pipe, "stderr": pipe, "text": True, "cwd": path.parent}
    return subprocess.Popen([sys.executable, str(path)], start_new_session=True, **options)


def end_script(script: subprocess.Popen[str], directory: Path, timeout: float = 20) -> tuple[str, str]:
    try:
        out, err = script.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(script.pid, signal.SIGKILL)
        raise
    (directory / "tmp" / "script.py").unlink()
    return out, err


def session_is_empty(leader: int) -> bool:
    def is_of_it(pid: int) -> bool:
        try:
            return os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    return not any(is_of_it(pid) for pid in psutil.pids())


@pytest.mark.parametrize("ending", ["", "client.close(); cluster.close()"])
def test_script_without_main_guard(ending: str, own_directories: Path) -> None:
    script = start_script(own_directories, ending)
    out, err = end_script(script, own_directories)
    total, *pids = map(int, out.split())
    assert total == sum(x**2 for x in range(10))
    assert len(set(pids)) == 2
    assert (script.returncode, err) == (0, "")
    assert session_is_empty(script.pid)


@pytest.mark.parametrize("whole_group", [True, False], ids=["terminal", "kill"])
@pytest.mark.parametrize("ending", ["time.sleep(600)", "client.submit(time.sleep, 600).result()"])
def test_ctrl_c_ends_a_script_and_its_workers(ending: str, whole_group: bool, own_directories: Path) -> None:
    script = start_script(own_directories, f"print('now', flush=True); {ending}")
    assert script.stdout is not None
    script.stdout.readline()
    assert script.stdout.readline() == "now\n"
    begin = time.monotonic()
    if whole_group:  # as a terminal does
        os.killpg(script.pid, signal.SIGINT)
    else:
        script.send_signal(signal.SIGINT)
    _, err = end_script(script, own_directories)
    assert time.monotonic() - begin < 6
    assert script.returncode in (1, -signal.SIGINT, 128 + signal.SIGINT)
    assert err.count("KeyboardInterrupt") <= 1, err
    poll_for(lambda: session_is_empty(script.pid), timeout=5)


def test_a_killed_script_takes_its_workers_along(own_directories: Path) -> None:
    script = start_script(own_directories, "time.sleep(600)")
    assert script.stdout is not None
    script.stdout.readline()
    script.kill()
    end_script(script, own_directories)
    poll_for(lambda: session_is_empty(script.pid), timeout=10)
    # Files of a killed process are swept away by the next cluster of this user.
    subprocess.run(["rm", "-rf", *own_directories.glob("*/*")], check=True)
