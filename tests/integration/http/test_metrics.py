"""Numbers for Prometheus."""

from __future__ import annotations

from distributed import Client, Semaphore
from distributed.scheduler import Scheduler
from tests.integration.comm.loops import on_uvloop
from tests.integration.http.test_gate import at, fetch


@on_uvloop
async def test_semaphores() -> None:
    async with Scheduler(dashboard_address=":0") as s:
        assert "dask_semaphore" not in (await fetch(at(s, "/metrics"))).body.decode()
        async with Client(s.address, asynchronous=True, set_as_default=False) as c:
            semaphore = Semaphore(2, 'data "base"', c)
            assert await semaphore.acquire()
            text = (await fetch(at(s, "/metrics"))).body.decode()
        for name, value in {
            "max_leases": 2,
            "active_leases": 1,
            "pending_leases": 0,
            "acquire_total": 1,
            "release_total": 0,
            "average_pending_lease_time_s": 0,
        }.items():
            assert f'dask_semaphore_{name}{{name="data \\"base\\""}} {value}\n' in text, name
        assert "dask_semaphore" not in (await fetch(at(s, "/metrics"))).body.decode()
