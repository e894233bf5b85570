"""Starting and ending a scheduler, in all the ways that users do it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import threading

import dask
import pytest
from tornado.ioloop import IOLoop

from distributed.base.status import Status
from distributed.comm import secrets
from distributed.messages.scheduler_to_client import SchedulerClosing
from distributed.messages.scheduler_to_worker import CloseWorkerOrder, ComputeTask
from distributed.rpc.loop_runner import sync
from distributed.rpc.pool import rpc
from distributed.scheduler import Scheduler
from tests.integration.comm.loops import on_both_loops, on_uvloop, until
from tests.integration.scheduler.peers import FakeClient, FakeWorker


@on_both_loops
async def test_await_and_async_with():
    s = await Scheduler()
    assert s.status is Status.running
    assert s.address.startswith("tcp://127.0.0.1:")
    assert s.port > 0
    assert s.ip == "127.0.0.1"
    await s.close()
    assert s.status is Status.closed
    await s.close()
    await s.finished()
    async with Scheduler(port=0) as s:
        assert "running" in repr(s)
        finished = asyncio.ensure_future(s.finished())
        await asyncio.sleep(0)
        assert not finished.done()
    await finished


@on_uvloop
async def test_addresses():
    async with Scheduler(protocol="inproc://") as s:
        assert s.address.startswith("inproc://")
    async with Scheduler(host="tcp://127.0.0.1:0") as s:
        assert s.address.startswith("tcp://127.0.0.1:")
    async with Scheduler(interface="lo") as s:
        assert s.ip == "127.0.0.1"
    async with Scheduler(host="") as s:
        assert s.listen_address.startswith("tcp://0.0.0.0:")
    async with Scheduler(contact_address="tcp://example.org:99") as s:
        assert s.address == "tcp://example.org:99"
        assert s.identity()["address"] == "tcp://example.org:99"
    async with Scheduler() as s:
        with pytest.raises(RuntimeError, match=str(s.port)):
            await Scheduler(port=s.port)


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"port": 99999}, ValueError),
        ({"interface": "no-such-interface"}, ValueError),
        ({"host": "127.0.0.1", "interface": "lo"}, ValueError),
        ({"allowed_failures": -1}, ValueError),
        ({"no_such_option": 1}, TypeError),
        ({"preload": ["no_such_module_at_all"]}, ImportError),
        ({"jupyter": True}, ValueError),
    ],
)
def test_bad_arguments(kwargs, error):
    with pytest.raises(error):
        Scheduler(**kwargs)


@on_uvloop
async def test_settings():
    with dask.config.set(
        {
            "distributed.scheduler.allowed-failures": 7,
            "distributed.scheduler.worker-saturation": float("inf"),
            "distributed.scheduler.worker-ttl": None,
            "distributed.scheduler.no-workers-timeout": "3s",
            "distributed.scheduler.blocked-handlers": ["identity"],
        }
    ):
        async with Scheduler() as s, rpc(s.address) as r:
            settings = s.state.settings
            assert s.allowed_failures == settings.allowed_failures == 7
            assert settings.saturation == float("inf")
            assert settings.worker_ttl_s is None
            assert settings.no_workers_timeout_s == 3
            with pytest.raises(ValueError, match="identity"):
                await r.identity()
    s = Scheduler(worker_ttl="2s", allowed_failures=1)
    assert s.state.settings.worker_ttl_s == 2
    assert s.allowed_failures == 1
    with dask.config.set({"distributed.scheduler.worker-saturation": "nonsense"}), pytest.raises(ValueError):
        Scheduler()


class TestOldWays:
    """``loop=`` and a synchronous ``start``, as the seed documents have it."""

    def run(self, loop, started):
        def target():
            asyncio.set_event_loop(loop.asyncio_loop)
            loop.add_callback(started.set)
            loop.start()

        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        return thread

    @pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", 0])
    def test_loop_runs_in_a_thread(self, address):
        loop = IOLoop(make_current=False)
        started = threading.Event()
        thread = self.run(loop, started)
        started.wait(5)
        s = Scheduler(loop=loop)
        s.start(address)
        assert s.status is Status.running
        assert s.loop is loop
        with rpc(s.address) as r:
            assert r.identity()["id"] == s.id
            assert r.terminate() in (None, "OK")
        sync(loop, s.finished, callback_timeout=5)
        loop.add_callback(loop.stop)
        thread.join(5)
        loop.close(all_fds=True)

    def test_loop_starts_later(self):
        loop = IOLoop(make_current=False)
        s = Scheduler(io_loop=loop)
        s.start("tcp://127.0.0.1:0")
        assert s.status is Status.running
        started = threading.Event()
        thread = self.run(loop, started)
        started.wait(5)
        with rpc(s.address) as r:
            assert r.ping() == "pong"
        sync(loop, s.close, callback_timeout=5)
        loop.add_callback(loop.stop)
        thread.join(5)
        loop.close(all_fds=True)


class TestSecretsAndFiles:
    @on_uvloop
    async def test_scheduler_file(self, tmp_path):
        path = tmp_path / "scheduler.json"
        async with Scheduler(scheduler_file=str(path)) as s:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            document = json.loads(path.read_text())
            assert document["address"] == s.address
            assert document["id"] == s.id
            assert document["secret"] == s.secret.reveal()
            assert document["workers"] == {}
        assert not path.exists()

    @on_uvloop
    async def test_file_of_another_is_left_alone(self, tmp_path):
        path = tmp_path / "scheduler.json"
        async with Scheduler(scheduler_file=path), Scheduler(scheduler_file=path) as second:
            pass
        assert not path.exists()
        first = await Scheduler(scheduler_file=path)
        second = await Scheduler(scheduler_file=path)
        await first.close()
        assert json.loads(path.read_text())["id"] == second.id
        await second.close()
        assert not path.exists()

    @on_uvloop
    async def test_unwritable_file(self, tmp_path):
        with pytest.raises((OSError, RuntimeError)):
            await Scheduler(scheduler_file=tmp_path / "no" / "such" / "place.json")

    @on_uvloop
    async def test_other_programs_of_this_user_find_the_secret(self):
        async with Scheduler() as s:
            assert list(secrets.store_directory().iterdir())
            code = f"from distributed.rpc import pool; print(pool.rpc({s.address!r}).ping())"
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
            out, _ = await process.communicate()
            assert out.decode().strip() == "pong"
            assert s.secret.reveal() not in repr(s.identity())
        assert not list(secrets.store_directory().iterdir())

    @on_uvloop
    async def test_secret_of_the_environment(self, monkeypatch):
        monkeypatch.setenv(secrets.ENV_TOKEN, "a token that everybody was given")
        async with Scheduler() as s:
            assert s.secret == secrets.from_environment()
            assert not secrets.store_directory().exists()

    def test_nothing_is_left_when_the_program_just_ends(self, tmp_path):
        path = tmp_path / "s.json"
        code = f"""
import asyncio
from distributed import Scheduler
async def main():
    s = await Scheduler(scheduler_file={str(path)!r})
    assert open({str(path)!r}).read()
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
"""
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
        assert not path.exists()
        assert not list(secrets.store_directory().iterdir())


@on_uvloop
async def test_close_tells_everybody():
    async with Scheduler() as s:
        async with FakeClient(s) as c, FakeWorker(s) as w:
            await s.close(reason="tea time")
            await until(lambda: c.lost and w.lost)
            assert c.of(SchedulerClosing) == [SchedulerClosing("tea time")]
            assert not w.of(CloseWorkerOrder)


@on_uvloop
async def test_terminate_closes_workers():
    s = await Scheduler()
    async with FakeWorker(s) as w:
        async with rpc(s.address) as r:
            assert await r.terminate() in (None, "OK")
        await s.finished()
        await until(lambda: w.lost)
        assert w.of(CloseWorkerOrder)


@on_uvloop
async def test_refuses_peers_while_closing():
    s = await Scheduler()
    address = s.address
    await s.close()
    with pytest.raises(OSError):
        async with rpc(address, timeout=1) as r:
            await r.ping()


@on_uvloop
async def test_idle_timeout():
    s = await Scheduler(idle_timeout="200ms")
    async with FakeClient(s) as c, FakeWorker(s, lazy=True) as w:
        c.submit("x-1")
        await until(lambda: w.of(ComputeTask))
        await asyncio.sleep(0.5)
        assert s.status is Status.running
        assert s.check_idle() is None
        w.finish(w.of(ComputeTask)[0])
        async with asyncio.timeout(30):
            await s.finished()
        assert c.of(SchedulerClosing)[0].reason == "idle"


@on_uvloop
async def test_silent_worker_is_removed():
    async with Scheduler(worker_ttl=0.2) as s, FakeWorker(s) as w:
        await until(lambda: not s.workers)
        await until(lambda: w.lost)
        assert w.of(CloseWorkerOrder)


class TestPreload:
    @on_uvloop
    async def test_file(self, tmp_path):
        path = tmp_path / "my_preload.py"
        path.write_text(
            "from distributed.diagnostics.plugin import SchedulerPlugin\n"
            "class P(SchedulerPlugin):\n"
            "    name = 'preloaded'\n"
            "    async def start(self, scheduler): scheduler.preload_started = True\n"
            "def dask_setup(scheduler): scheduler.add_plugin(P())\n"
            "async def dask_teardown(scheduler): scheduler.preload_ended = True\n"
        )
        async with Scheduler(preload=str(path)) as s:
            assert "preloaded" in s.plugins
            assert s.preload_started
        assert s.preload_ended
        with dask.config.set({"distributed.scheduler.preload": [str(path)]}):
            async with Scheduler() as s:
                assert "preloaded" in s.plugins

    @on_uvloop
    async def test_that_fails(self, tmp_path):
        path = tmp_path / "bad_preload.py"
        path.write_text("def dask_setup(scheduler): raise RuntimeError('bad preload')\n")
        with pytest.raises(RuntimeError, match="bad preload"):
            await Scheduler(preload=[str(path)])


@on_uvloop
async def test_services():
    stopped = []

    class Service:
        def __init__(self, scheduler, io_loop=None, prefix=""):
            self.prefix = prefix

        def listen(self, address):
            self.port = 4242

        def stop(self):
            stopped.append(self.prefix)

    def broken(scheduler, **kwargs):
        raise RuntimeError("no")

    services = {("mine", 0): Service, "broken": broken}
    async with Scheduler(services=services, service_kwargs={"mine": {"prefix": "/foo"}}) as s:
        assert s.identity()["services"] == {"mine": 4242}
    assert stopped == ["/foo"]


@on_uvloop
async def test_public_state():
    async with Scheduler() as s, FakeWorker(s, nthreads=3, info={"resources": {"GPU": 2.0}}) as w, FakeClient(s):
        assert list(s.workers) == [w.address]
        assert "client-1" in s.clients
        assert s.total_nthreads == 3
        assert s.resources == {"GPU": {w.address: 2.0}}
        assert set(s.host_info) == {"127.0.0.1"}
        assert s.host_info["127.0.0.1"]["nthreads"] == 3
        for name in ("tasks", "task_groups", "task_prefixes", "events", "idle", "saturated", "running", "queued",
                     "unrunnable", "plugins", "extensions", "services", "transition_log", "loop", "id"):  # fmt: skip
            assert getattr(s, name) is not None
        await s.remove_worker(w.address)
        assert not s.workers
        await until(lambda: w.lost)


def test_nothing_is_left(tmp_path):
    """No task, socket or file after close."""

    async def main():
        s = await Scheduler(dashboard_address=":0", scheduler_file=tmp_path / "f.json", idle_timeout="10s")
        async with FakeWorker(s), FakeClient(s) as c:
            c.submit("x")
        await s.close()
        await asyncio.sleep(0)
        assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []

    asyncio.run(main())
    before = set(os.listdir("/proc/self/fd"))
    asyncio.run(main())
    assert len(os.listdir("/proc/self/fd")) <= len(before)
    assert not list(tmp_path.iterdir())


def test_runs_without_users_packages():
    """The scheduler's own modules do not need numpy, pandas or cloudpickle's user-side friends."""
    code = """
import sys
for name in ("numpy", "pandas", "pyarrow"):
    sys.modules[name] = None
import asyncio
from distributed.scheduler import Scheduler
async def main():
    async with Scheduler(dashboard_address=":0") as s:
        print(s.status.name)
asyncio.run(main())
unwanted = ("distributed.worker", "distributed.client", "dask.array", "tornado.web")
loaded = [m for m in sys.modules if m.startswith(unwanted)]
print(loaded)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["running", "[]"], done.stderr
