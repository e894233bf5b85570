"""Nannies with real worker processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest

from distributed.base.errors import KilledWorker, TaskExited
from distributed.base.status import Status
from distributed.client import Client
from distributed.nanny import Nanny
from distributed.testing import gen_cluster, inc


def one_nanny(**options: Any) -> Any:
    return gen_cluster(nthreads=[("127.0.0.1", 1)], Worker=Nanny, client=True, **options)


async def gone(pid: int) -> None:
    async with asyncio.timeout(30):
        while psutil.pid_exists(pid):
            await asyncio.sleep(0.01)


async def worker_of(n: Nanny, not_pid: int | None = None) -> int:
    """The pid of the (next) worker process once it has an address."""
    async with asyncio.timeout(20):
        while n.worker_address is None or n.pid is None or n.pid == not_pid:
            await asyncio.sleep(0.01)
    return n.pid


@one_nanny()
async def test_runs_a_worker_in_a_process(c: Client, s: Any, n: Nanny) -> None:
    assert n.is_alive() and n.pid != os.getpid()
    assert n.worker_address in s.workers
    assert n.worker_dir and os.path.isdir(n.worker_dir)
    assert await c.submit(os.getpid) == n.pid
    pid, directory = n.pid, n.worker_dir
    await n.close()
    assert n.status is Status.closed
    assert not n.is_alive()
    await gone(pid)
    assert not os.path.exists(directory)


@one_nanny()
async def test_process_that_exits_is_restarted_and_reported(c: Client, s: Any, n: Nanny) -> None:
    pid = n.pid
    with pytest.raises(KilledWorker, match="code 3"):
        await c.submit(os._exit, 3)
    await worker_of(n, pid)
    assert await c.submit(inc, 1) == 2


@one_nanny()
async def test_sigkill_reruns_the_task(c: Client, s: Any, n: Nanny) -> None:
    pid = n.pid
    assert pid is not None
    marker = os.path.join("/tmp", f"distributed-test-{os.getpid()}-{pid}")

    def once(path: str) -> str:
        import time

        if not os.path.exists(path):
            with open(path, "w") as f:
                f.write("x")
            time.sleep(60)
        return "second"

    try:
        f = c.submit(once, marker)
        while not os.path.exists(marker):
            await asyncio.sleep(0.01)
        directory = n.worker_dir
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.wait_for(f, 20) == "second"
        assert directory is not None and not os.path.exists(directory)
    finally:
        os.unlink(marker)


@one_nanny()
async def test_exit_in_a_task_does_not_restart(c: Client, s: Any, n: Nanny) -> None:
    pid = n.pid
    with pytest.raises(TaskExited):
        await c.submit(sys.exit, 2)
    assert await c.submit(os.getpid) == pid


@one_nanny()
async def test_restart(c: Client, s: Any, n: Nanny) -> None:
    pid = n.pid
    assert await n.restart() == "OK"
    assert n.pid != pid
    assert await c.submit(os.getpid) == n.pid


@one_nanny()
async def test_restart_goes_on_when_nobody_waits_for_it(c: Client, s: Any, n: Nanny) -> None:
    pid = n.pid
    assert await n.restart(timeout=0.001) == "timed out"
    assert await worker_of(n, pid) == n.pid
    assert await c.submit(os.getpid) == n.pid


@gen_cluster(nthreads=[])
async def test_a_nanny_that_cannot_restart_its_worker_fails(s: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    async with Nanny(s.address, nthreads=1, preload=f"import os; os.path.exists({str(broken)!r}) and os._exit(7)") as n:
        broken.touch()
        with pytest.raises(RuntimeError, match="could not be started again"):
            await n.restart()
        await n.finished()
        assert n.status is Status.failed and not n.is_alive()


@gen_cluster(nthreads=[])
async def test_a_nanny_that_ends_while_its_worker_dies_at_start(s: Any) -> None:
    n = Nanny(s.address, nthreads=1, preload="import time; time.sleep(60)")
    starting = asyncio.ensure_future(n.start())
    async with asyncio.timeout(20):
        while n.pid is None:
            await asyncio.sleep(0.01)
    pid = n.pid
    await n.close(timeout=0.1)
    await gone(pid)
    with pytest.raises(RuntimeError):
        await starting
    assert n.process is None or not n.process.is_alive()


@one_nanny()
async def test_kill_and_instantiate(c: Client, s: Any, n: Nanny) -> None:
    await n.kill()
    assert not n.is_alive() and n.pid is None
    await n.instantiate()
    assert n.is_alive()
    assert await c.submit(inc, 1) == 2


@one_nanny()
async def test_sigterm_to_the_worker(c: Client, s: Any, n: Nanny) -> None:
    pid = n.pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    assert await worker_of(n, pid) != pid


@one_nanny()
async def test_child_processes_of_tasks_are_ended_with_the_worker(c: Client, s: Any, n: Nanny) -> None:
    child = await c.submit(lambda: subprocess.Popen(["sleep", "1000"]).pid)
    assert psutil.pid_exists(child)
    await n.kill()
    async with asyncio.timeout(5):
        while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.01)


@gen_cluster(nthreads=[])
async def test_environment(s: Any) -> None:
    async with Nanny(s.address, nthreads=1, env={"MINE": "yes", "OMP_NUM_THREADS": "3"}, config={"my-setting": 5}) as n:
        async with Client(s.address, asynchronous=True) as c:
            assert (await c.run(lambda: (os.environ["MINE"], os.environ["OMP_NUM_THREADS"])))[n.worker_address] == (
                "yes",
                "3",
            )

            def setting() -> Any:
                import dask

                return dask.config.get("my-setting")

            assert await c.submit(setting) == 5
            assert not any("TOKEN" in name for name in await c.submit(lambda: list(os.environ)))
            assert not any("dsk1-" in part for part in psutil.Process(n.pid).cmdline())


@gen_cluster(nthreads=[])
async def test_start_that_fails_is_told(s: Any) -> None:
    with pytest.raises(RuntimeError, match="no_such_option"):
        await Nanny(s.address, nthreads=1, no_such_option=1)


@gen_cluster(nthreads=[])
async def test_process_that_dies_at_start_is_given_up(s: Any) -> None:
    with pytest.raises(RuntimeError, match="exit code 7"):
        await Nanny(s.address, nthreads=1, preload="import os; os._exit(7)")


def test_workers_die_with_their_nanny() -> None:
    script = textwrap.dedent(
        """
        import asyncio, os
        from distributed.scheduler import Scheduler
        from distributed.nanny import Nanny

        async def main():
            async with Scheduler(host="127.0.0.1", dashboard=False) as s:
                n = await Nanny(s.address, nthreads=1)
                print(n.pid, flush=True)
                await asyncio.sleep(60)

        asyncio.run(main())
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert psutil.pid_exists(pid)
    process.kill()
    process.wait()
    process.stdout.close()
    asyncio.run(gone(pid))


def test_loop_in_a_thread() -> None:
    from distributed.rpc.loop_runner import LoopRunner
    from distributed.scheduler import Scheduler

    runner = LoopRunner()
    runner.start()
    try:
        s = Scheduler(loop=runner.loop, host="127.0.0.1", dashboard=False)
        s.start("tcp://127.0.0.1:0")
        n = Nanny(s.address, nthreads=1, loop=runner.loop)
        n.start(0)
        pid = n.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert runner.run_sync(worker_of, n, pid) != pid
        runner.run_sync(n.close)
        runner.run_sync(s.close)
    finally:
        runner.stop()


def test_signal_storm_ends_the_worker_process_once() -> None:
    script = textwrap.dedent(
        """
        import asyncio, os, signal
        from distributed.scheduler import Scheduler
        from distributed.nanny import Nanny

        async def main():
            async with Scheduler(host="127.0.0.1", dashboard=False) as s:
                n = await Nanny(s.address, nthreads=1)
                n.auto_restart = False
                process = n.process
                for i in range(50):
                    try:
                        os.kill(process.pid, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[i % 3])
                    except ProcessLookupError:
                        break
                end = await asyncio.wait_for(process.ended, 30)
                print(end.exit_code, end.signal)
                await n.close()

        asyncio.run(main())
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    code, number = done.stdout.split()
    assert number == "None" and int(code) in (128 + 15, 128 + 2, 128 + 1)
    assert "Traceback" not in done.stderr
