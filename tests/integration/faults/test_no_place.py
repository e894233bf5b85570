"""What a program needs at its start and does not get: a port that is taken, a directory that cannot be used."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.config
import pytest

from distributed import Client, LocalCluster, Nanny, Worker
from distributed.comm import port_holder
from distributed.scheduler import Scheduler
from distributed.testing import gen_test, inc
from tests.integration.cli.test_programs import SCHEDULER, WORKER, running

from .places import records, scheduler_here

pytestmark = pytest.mark.usefixtures("private_places", "cleanup")


@contextlib.contextmanager
def taken(port: int = 0) -> Iterator[tuple[int, int]]:
    """A port that another program listens at, and its process id."""
    code = (
        "import socket, sys; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); "
        f"s.bind(('127.0.0.1', {port})); s.listen(); print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.communicate("")


def one_line(args: list[str], **kwargs: Any) -> str:
    """The error of a program that does not start."""
    with running(args, **kwargs) as program:
        code, text = program.end_by_itself(30)
    assert code == 1 and "Traceback" not in text, text
    (line,) = [line for line in text.splitlines() if line.startswith("Error")]
    return line


# ---------------------------------------------------------------- ports


def held_by(port: int, pid: int) -> str:
    return rf"127\.0\.0\.1:{port}: Address already in use; it is held by pid {pid} \(python[^)]*\); choose another port"


def test_named_port_on_the_command_line() -> None:
    with taken() as (port, pid):
        line = one_line([*SCHEDULER, "--host", "127.0.0.1", "--port", str(port)])
        assert re.search(held_by(port, pid), line), line
        with running([*SCHEDULER, "--host", "127.0.0.1", "--port", "0"]) as scheduler:
            address = scheduler.line(r"Start scheduler at: (\S+)")
            for nanny in ("--nanny", "--no-nanny"):
                line = one_line([*WORKER, address, nanny, "--worker-port", str(port)])
                assert re.search(held_by(port, pid), line), line


@gen_test()
async def test_named_port_of_a_scheduler() -> None:
    with taken() as (port, pid):
        begin = time.monotonic()
        with pytest.raises(RuntimeError, match=held_by(port, pid)):
            await Scheduler(host="127.0.0.1", port=port)
        assert time.monotonic() - begin < 5
    own = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(RuntimeError, match=rf"this very process \(pid {os.getpid()}\)"):
        await Scheduler(host="127.0.0.1", port=own.getsockname()[1])
    own.close()


def test_named_port_of_a_cluster() -> None:
    with taken() as (port, pid):
        with pytest.raises(RuntimeError, match=held_by(port, pid)):
            LocalCluster(n_workers=0, scheduler_port=port, dashboard_address=None)


def test_holder_that_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    with taken() as (port, _):
        original = psutil.net_connections
        monkeypatch.setattr(psutil, "net_connections", lambda kind: [c._replace(pid=None) for c in original(kind)])
        assert "another user's process" in port_holder.describe_holder(port)

        def denied(kind: str) -> Any:
            raise psutil.AccessDenied

        monkeypatch.setattr(psutil, "net_connections", denied)
        assert "more rights" in port_holder.describe_holder(port)


@gen_test()
async def test_default_port_of_a_scheduler(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    with taken() as (port, pid):
        monkeypatch.setattr(Scheduler, "default_port", port)
        async with Scheduler(host="127.0.0.1", port=None) as s:
            assert port < s.port and s.port != port + 1
            async with Client(s.address, asynchronous=True):
                pass
    (line,) = [line for line in records(caplog, "distributed.comm") if "trying the next port" in line]
    assert re.search(rf"127\.0\.0\.1:{port}: Address already in use; it is held by pid {pid} ", line), line


@pytest.mark.usefixtures("default_ports")
def test_default_ports_on_the_command_line() -> None:
    """Two schedulers, neither of which names a port, nor one for the pages."""
    args = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
    with contextlib.ExitStack() as stack:
        for port in (8786, 8787):
            with contextlib.suppress(ValueError):  # somebody else has it, which is as good
                stack.enter_context(taken(port))
        with running(args) as program:
            address = program.line(r"Start scheduler at: (\S+)")
            with Client(address) as client:
                link = client.dashboard_link
                assert int(address.rpartition(":")[2]) not in (8786, 8787) and ":8787/" not in link
            code, text = program.end()
    assert code == 128 + signal.SIGTERM
    assert "127.0.0.1:8786: Address already in use; it is held by pid " in text and "trying the next port" in text
    assert "Port 8787 is already in use (it is held by pid " in text, text


# ---------------------------------------------------------------- directories


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A directory in which nothing can be made, whoever we are."""
    path = tmp_path / "read-only"
    path.mkdir()
    if os.getuid() == 0:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(path)], check=False).returncode:
            yield Path("/proc/1")  # root of a container that may not mount: here it can make nothing either
            return
        yield path
        subprocess.run(["umount", str(path)], check=True)
    else:
        path.chmod(0o500)
        yield path
        path.chmod(0o700)


REASON = r"(Read-only file system|Permission denied|No such file or directory)"


@pytest.mark.parametrize("nanny", ["--nanny", "--no-nanny"])
def test_read_only_directory_on_the_command_line(nanny: str, read_only: Path) -> None:
    with running([*SCHEDULER, "--host", "127.0.0.1", "--port", "0"]) as scheduler:
        address = scheduler.line(r"Start scheduler at: (\S+)")
        line = one_line([*WORKER, address, nanny, "--local-directory", str(read_only)])
        assert str(read_only) in line and "local_directory" in line and re.search(REASON, line), line


@gen_test()
async def test_file_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    async with scheduler_here() as s:
        for kind in (Worker, Nanny):
            begin = time.monotonic()
            with pytest.raises((RuntimeError, OSError), match=rf"local_directory '{path}' cannot be used: Not a direc"):
                await kind(s.address, local_directory=str(path))
            assert time.monotonic() - begin < 10
        assert path.read_text() == "mine" and not s.workers


@gen_test()
async def test_absent_directory_is_made(tmp_path: Path) -> None:
    async with scheduler_here() as s:
        async with Worker(s.address, local_directory=str(tmp_path / "a" / "b")) as w:
            assert w.local_directory.startswith(str(tmp_path / "a" / "b")) and os.path.isdir(w.local_directory)
        assert not list((tmp_path / "a" / "b").iterdir())


@gen_test()
async def test_configured_default_that_cannot_be_used(read_only: Path, caplog: Any) -> None:
    """Nobody asked for this directory here: another is taken, and that is said."""
    caplog.set_level(logging.INFO, "distributed")
    async with scheduler_here() as s:
        with dask.config.set({"temporary-directory": str(read_only)}):
            async with Worker(s.address) as w:
                assert not w.local_directory.startswith(str(read_only)) and os.path.isdir(w.local_directory)
                async with Client(s.address, asynchronous=True) as c:
                    assert await asyncio.wait_for(c.submit(inc, 1).result(), 10) == 2
    (line,) = [line for line in records(caplog, "distributed.worker") if "cannot be used" in line]
    assert str(read_only) in line and "instead" in line, line


def test_shared_directory_of_another_user() -> None:
    """Another user's workers were there first: ours have a place of their own beside theirs."""
    with tempfile.TemporaryDirectory() as name:
        shared = Path(name)
        shared.chmod(0o777)
        theirs = shared / "dask-scratch-space"
        theirs.mkdir()
        theirs.chmod(0o755 if os.getuid() == 0 else 0o500)
        code = (
            "import os, sys\n"
            "from distributed.worker.scratch import make_directory, remove_directory\n"
            "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
            "path = make_directory(sys.argv[1]); print(os.getuid(), path); remove_directory(path)"
        )
        done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=False)
        uid, _, path = done.stdout.partition(" ")
        assert path.startswith(f"{shared}/dask-scratch-space-{uid}/worker-"), done.stderr
        assert [p.name for p in shared.iterdir()] == ["dask-scratch-space"]
        theirs.chmod(0o700)
