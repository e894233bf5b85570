"""``SubprocessCluster``: scheduler and workers are processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from distributed import Client, SubprocessCluster
from distributed.comm import secrets
from distributed.deploy.subprocess import SubprocessScheduler, SubprocessWorker
from distributed.testing import gen_test, inc, poll_for

pytestmark = pytest.mark.usefixtures("cleanup", "private_places")


def cluster(**keywords: Any) -> SubprocessCluster:
    sizes = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "worker_kwargs": {"memory_limit": 0}}
    return SubprocessCluster(**{**sizes, **keywords})


def programs() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "--attached" in child.cmdline():
                found.append(child)
        except psutil.Error:
            pass
    return found


def test_everything_runs_elsewhere_and_ends(capfd: pytest.CaptureFixture[str]) -> None:
    with cluster(n_workers=2) as own, Client(own) as client:
        client.wait_for_workers(2, timeout=60)
        assert client.gather(client.map(inc, range(10))) == list(range(1, 11))
        assert client.run_on_scheduler(os.getpid) != os.getpid()
        began = programs()
        assert len(began) == 3
        secret = own.scheduler.secret.reveal()
        for process in began:
            told = [*process.cmdline(), *process.environ().values()]
            assert not any(secret in word for word in told)
        own.scale(1)
        poll_for(lambda: len(own.observed) == 1 and len(programs()) == 2, timeout=30)
        own.scale(cores=2)
        client.wait_for_workers(2, timeout=60)
        # This process's interpreter is held, not the scheduler's.
        future = client.submit(time.time)
        begun = time.time()
        sum(i * i for i in range(2_000_000))
        assert future.result(timeout=10) >= begun - 1
    assert not psutil.wait_procs(began, timeout=10)[1]
    assert not programs()
    assert not list(secrets.store_directory().glob("*"))
    assert "INFO" not in capfd.readouterr().err


def test_a_worker_that_is_killed_is_replaced_and_its_end_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with cluster(worker_class="distributed.Worker", worker_kwargs={}) as own, Client(own) as client:
        client.wait_for_workers(1, timeout=60)
        pid = next(iter(client.run(os.getpid).values()))
        future = client.submit(inc, 1)
        assert future.result(timeout=30) == 2
        os.kill(pid, signal.SIGKILL)
        assert client.submit(inc, 2).result(timeout=60) == 3
        assert pid not in client.run(os.getpid).values()
    assert "worker has ended, exit code -9" in capfd.readouterr().err


def test_what_can_go_wrong_is_told_in_a_line() -> None:
    with pytest.raises(RuntimeError, match=r"scheduler: the scheduler did not start: Error: .*nowhere0") as error:
        cluster(scheduler_kwargs={"interface": "nowhere0", "host": None})
    assert "\n" not in str(error.value)
    with pytest.raises(RuntimeError, match=r"there is no class 'nowhere\.Worker'"):
        cluster(worker_class="nowhere.Worker")
    with pytest.raises(TypeError, match="must be plain data"):
        cluster(worker_kwargs={"resources": object()})
    poll_for(lambda: not programs(), timeout=10)


SCRIPT = """
import os, signal, sys
from distributed import SubprocessCluster
if __name__ == "__main__":
    cluster = SubprocessCluster(n_workers=1, dashboard_address=None)
    print(cluster.scheduler_address, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_all_ends_with_a_program_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    port = int(done.stdout.rpartition(":")[2])
    poll_for(lambda: not any(c.laddr.port == port for c in psutil.net_connections("tcp") if c.laddr), timeout=30)


@gen_test()
async def test_asynchronous_and_the_parts_alone() -> None:
    async with cluster(asynchronous=True) as own, Client(own, asynchronous=True) as client:
        assert await client.submit(inc, 1) == 2
    async with SubprocessScheduler({"port": 0, "dashboard": False}) as scheduler:
        async with SubprocessWorker(scheduler.address, worker_class="distributed.Worker", name="a") as worker:
            async with Client(scheduler.address, asynchronous=True) as client:
                await client.wait_for_workers(1, timeout=30)
                assert worker.address in await client.ncores()
