"""Numbers for Prometheus."""

from __future__ import annotations

import sys
import time

from distributed import Client, Semaphore
from distributed.scheduler import Scheduler
from distributed.testing import inc
from distributed.worker import Worker
from tests.integration.comm.loops import on_uvloop, until
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


def samples(text: str) -> dict[str, float]:
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in text.splitlines()) if name[0] != "#"
    }


@on_uvloop
async def test_names_of_a_scheduler_and_a_worker() -> None:
    """The names under which Prometheus dashboards of this field look, with numbers that are right."""
    async with Scheduler(dashboard_address=":0") as s, Worker(s.address, dashboard_address=":0") as w:
        async with Client(s.address, asynchronous=True, set_as_default=False) as c:
            text = (await fetch(at(s, "/metrics"))).body.decode()  # watching the loop begins with the first look
            assert 'dask_scheduler_tasks{state="memory"} 0\n' in text
            futures = c.map(inc, range(10))
            assert sum(await c.gather(futures)) == 55
            late = c.submit(time.sleep, 0.2, pure=False)
            await late
            found = samples((await fetch(at(s, "/metrics"))).body.decode())
            of_worker = samples((await fetch(at(w, "/metrics"))).body.decode())
            del futures, late
            await until(lambda: not s.state.tasks)
            later = samples((await fetch(at(s, "/metrics"))).body.decode())
        await until(lambda: not s.clients or set(s.clients) == {"fire-and-forget"})
        last = samples((await fetch(at(s, "/metrics"))).body.decode())
    scheduler = {name.removeprefix("dask_scheduler_"): value for name, value in found.items()}
    assert scheduler["clients"] == 1 == scheduler["client_connections_added_total"]
    assert scheduler["client_connections_removed_total"] == 0 == scheduler["workers_removed_total"]
    assert last["dask_scheduler_client_connections_removed_total"] == 1
    assert scheduler["workers_added_total"] == 1
    states = ("idle", "partially_saturated", "saturated", "paused", "retiring")
    assert sum(scheduler[f'workers{{state="{state}"}}'] for state in states) == 1
    assert scheduler['tasks_suspicious_total{task_prefix_name="inc"}'] == 0
    assert scheduler['tasks_compute_seconds_total{task_prefix_name="sleep"}'] >= 0.2
    assert scheduler['tasks_output_bytes{task_prefix_name="inc"}'] == 10 * sys.getsizeof(1)
    assert scheduler["tasks_forgotten_total"] == 0 and later["dask_scheduler_tasks_forgotten_total"] == 11
    assert scheduler["task_groups"] == 2 and scheduler["desired_workers"] >= 0
    assert scheduler["tick_count_total"] > 0 and scheduler["tick_duration_maximum_seconds"] > 0
    assert scheduler["last_time_total"] > 0 and scheduler["gc_collection_seconds_total"] >= 0
    assert scheduler["worker_reports_ignored_total"] == 0
    assert found["dask_stealing_request_count_total"] == 0 == found["dask_stealing_request_cost_total"]
    worker = {name.removeprefix("dask_worker_"): value for name, value in of_worker.items()}
    assert worker["threads"] == w.nthreads and worker['tasks{state="memory"}'] == 11
    for kind in ("managed", "unmanaged", "spilled"):
        assert worker[f'memory_bytes{{type="{kind}"}}'] >= 0
    assert worker["latency_seconds"] >= 0
    for name in ("incoming_count_total", "incoming_bytes_total", "outgoing_count_total", "outgoing_bytes_total"):
        assert worker[f"transfer_{name}"] >= 0
    assert worker['spill_bytes_total{activity="disk-write"}'] == 0
    assert worker["tick_count_total"] >= 0 and worker["gc_collection_seconds_total"] >= 0
