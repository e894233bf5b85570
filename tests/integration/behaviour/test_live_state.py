"""Live state under the names that plugins and other packages read: in the scheduler's process by ``run_on_scheduler``,
in the workers' by ``run``, in the nannies' by ``run(nanny=True)``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from distributed import Client, LocalCluster, get_worker, wait

SCHEDULER = """
    tasks workers clients task_groups task_prefixes idle saturated running queued unrunnable resources host_info events
    extensions plugins address status memory total_nthreads total_occupancy handlers stream_handlers aliases services
    loop id ip port listeners started identity log_event story retire_workers workers_to_close adaptive_target
    add_plugin remove_plugin broadcast get_task_stream transition_log task_metadata bandwidth validate
    replicated_tasks total_memory erred_tasks worker_plugins nanny_plugins n_tasks dashboard_link scheduler_file
    """
TASK = """
    key state priority dependencies dependents waiting_on waiters who_wants who_has processing_on retries nbytes type
    exception exception_text traceback traceback_text exception_blame erred_on suspicious host_restrictions
    worker_restrictions resource_restrictions loose_restrictions actor group prefix metadata annotations run_id run_spec
    group_key get_nbytes
    """
WORKER_STATE = """
    address name nthreads memory_limit processing executing long_running has_what nbytes memory metrics resources
    used_resources occupancy last_seen status services versions nanny extra host local_directory pid server_id actors
    clean
    """
CLIENT_STATE = "client_key wants_what last_seen"
GROUP = "name prefix states dependencies nbytes_total duration types start stop all_durations done"
PREFIX = "name duration_average suspicious groups states nbytes_total duration all_durations types"
MEMORY = "process managed spilled unmanaged unmanaged_old unmanaged_recent optimistic"
WORKER = """
    data state active_threads nthreads name address worker_address scheduler scheduler_address nanny local_directory
    memory_limit memory_manager plugins extensions handlers stream_handlers executors executor status loop id metrics
    total_resources client validate death_timeout lifetime get_current_task log_event identity
    """
WORKER_TABLES = """
    tasks ready constrained executing long_running in_flight_tasks missing_dep_flight waiting address nthreads running
    total_resources available_resources all_running_tasks executing_count actors log story nbytes
    """
WORKER_TASK = "key state priority dependencies dependents nbytes run_id prefix get_nbytes"
NANNY = """
    process worker_address worker_dir pid status address scheduler_addr nthreads name plugins is_alive instantiate kill
    restart close_gracefully memory_limit env
    """


def absent(obj: Any, names: str) -> list[str]:
    return [name for name in names.split() if not hasattr(obj, name)]


def on_scheduler(names: dict[str, str], dask_scheduler: Any) -> dict[str, list[str]]:
    s = dask_scheduler
    states = {
        "scheduler": s,
        "task": s.tasks["x"],
        "erred task": s.tasks["bad"],
        "worker": next(iter(s.workers.values())),
        "client": s.clients[next(client for client in s.clients if client.startswith("Client-"))],
        "group": s.task_groups["x"],
        "prefix": s.task_prefixes["x"],
        "memory": s.memory,
    }
    return {what: [n for n in names[what].split() if not hasattr(states[what], n)] for what in states}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    options: dict[str, Any] = {"dashboard_address": None, "resources": {"A": 1}}
    with LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster, Client(cluster) as client:
        yield client


def fail() -> None:
    raise ZeroDivisionError("on purpose")


def test_names_in_the_scheduler(client: Client) -> None:
    x, bad = client.submit(abs, -1, key="x"), client.submit(fail, key="bad")
    wait([x, bad])
    names = {
        "scheduler": SCHEDULER,
        "task": TASK,
        "erred task": TASK,
        "worker": WORKER_STATE,
        "client": CLIENT_STATE,
        "group": GROUP,
        "prefix": PREFIX,
        "memory": MEMORY,
    }
    missing = client.run_on_scheduler(on_scheduler, names)
    assert not any(missing.values()), missing


def values(keys: list[str], dask_scheduler: Any) -> dict[str, Any]:
    s = dask_scheduler
    x, y, bad = [s.tasks[key] for key in keys]
    [ws] = x.who_has
    return {
        "state": (x.state, y.state, bad.state),
        "edges": (y in x.dependents, x in y.dependencies, x.waiting_on == y.waiters == set()),
        "who": (ws.address in s.workers, x in ws.has_what, [c.client_key in s.clients for c in x.who_wants]),
        "nbytes": (x.nbytes > 0, x.get_nbytes() == x.nbytes, ws.nbytes >= x.nbytes),
        "annotations": (x.annotations["priority"], x.annotations["colour"], x.retries),
        "error": (bad.exception_text, "on purpose" in bad.traceback_text, bad.exception_blame is bad),
        "erred": bad in s.erred_tasks and x not in s.erred_tasks,
        "group": (x.group.name, x.prefix.name, s.task_groups["seen"] is x.group, x.group.states["memory"]),
        "worker": (ws.nthreads, ws.memory_limit > 0, ws.status.name, ws.resources, ws.used_resources, ws.host),
        "worker is watched": (ws.nanny != ws.address, ws.pid > 0),
        "sums": (
            s.total_nthreads,
            s.total_memory == sum(w.memory_limit for w in s.workers.values()),
            s.total_occupancy,
        ),
        "resources": {name: len(there) for name, there in s.resources.items()},
        "computations": sorted(
            [sorted([group.name for group in c.groups]) for c in s.computations if {x.group, bad.group} & c.groups]
        ),
        "times": [one.start <= one.stop for one in s.computations],
        "idle": (len(s.idle), len(s.saturated), len(s.running)),
        "hosts": {host: info["nthreads"] for host, info in s.host_info.items()},
    }


def test_values_in_the_scheduler(client: Client) -> None:
    import dask

    with dask.annotate(colour="red"):
        x = client.submit(abs, -1, key="seen-1", priority=2, retries=1)
    y, bad = client.submit(abs, x, key="y"), client.submit(fail, key="bad-2")
    wait([x, y, bad])
    found = client.run_on_scheduler(values, ["seen-1", "y", "bad-2"])
    assert found["state"] == ("memory", "memory", "erred")
    assert found["edges"] == (True, True, True)
    assert found["who"] == (True, True, [True])
    assert found["nbytes"] == (True, True, True)
    assert found["annotations"] == (2, "red", 1)
    assert found["error"] == ("ZeroDivisionError('on purpose')", True, True)
    assert found["erred"]
    assert found["group"] == ("seen", "seen", True, 1)
    assert found["worker"] == (1, True, "running", {"A": 1}, {"A": 0}, "127.0.0.1")
    assert found["worker is watched"] == (True, True)
    assert found["sums"] == (2, True, 0)
    assert found["resources"] == {"A": 2}
    assert found["computations"] == [["bad"], ["seen", "y"]]
    assert all(found["times"])
    assert found["idle"] == (2, 0, 2)
    assert found["hosts"] == {"127.0.0.1": 2}


def on_worker(names: list[str], dask_worker: Any) -> dict[str, list[str]]:
    w = dask_worker
    found = {"worker": absent(w, names[0]), "state": absent(w.state, names[1])}
    if "x" in w.state.tasks:
        found["task"] = absent(w.state.tasks["x"], names[2])
    return found


def test_names_in_the_workers(client: Client) -> None:
    futures = client.scatter({"x": 1}, broadcast=True)
    assert all(client.run(lambda dask_worker: "x" in dask_worker.state.tasks).values())
    for missing in client.run(on_worker, [WORKER, WORKER_TABLES, WORKER_TASK]).values():
        assert not any(missing.values()) and "task" in missing, missing
    del futures


def from_inside(x: int) -> dict[str, Any]:
    w = get_worker()
    [key] = w.active_threads.values()
    return {
        "key": (key, w.get_current_task()),
        "executing": [ts.key for ts in w.state.executing],
        "inputs": list(w.data),
        "states": {ts.key: ts.state for ts in w.state.tasks.values()},
        "same": set(w.state.tasks["inside"].dependents) == {w.state.tasks["look"]},
        "pid": os.getpid(),
        "waiting": (len(w.state.constrained), len(w.state.ready), list(w.state.ready)),
    }


def test_values_in_a_worker(client: Client) -> None:
    future = client.submit(abs, -1, key="inside")
    found = client.submit(from_inside, future, key="look").result()
    assert found["key"] == ("look", "look")
    assert found["executing"] == ["look"]
    assert "inside" in found["inputs"]
    assert found["states"]["inside"] == "memory" and found["states"]["look"] == "executing"
    assert found["same"] and found["pid"] != os.getpid()
    assert found["waiting"] == (0, 0, [])


def on_nanny(names: str, dask_worker: Any) -> tuple[list[str], Any]:
    return absent(dask_worker, names), (dask_worker.pid, dask_worker.worker_address, dask_worker.process is not None)


def test_names_and_values_in_the_nannies(client: Client) -> None:
    pids = client.run(os.getpid)
    for worker, (missing, known) in client.run(on_nanny, NANNY, nanny=True).items():
        assert missing == []
        assert known == (pids[worker], worker, True)
