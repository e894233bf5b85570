"""Tasks that leave something behind in their worker's process: it is reported with their keys."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest

from distributed import Client, get_client
from tests.integration.faults import tasks
from tests.integration.faults.small_cluster import SHORT_S, events, poll, small_cluster

QUICK = {"distributed.worker.leak-watch.interval": "50ms"}
TOPIC = "task-leaks"


@pytest.fixture
def single(cleanup: None) -> Iterator[Client]:
    """One worker with two threads that looks for leaks often."""
    with dask.config.set(QUICK), small_cluster(1, 2) as client:
        yield client


def leak_of(client: Client, kind: str) -> dict[str, Any]:
    return poll(lambda: next((event for event in events(client, TOPIC) if event["kind"] == kind), None))


def test_each_kind_is_reported_with_its_task(single: Client, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        cases: list[tuple[str, Any, tuple[Any, ...], Any]] = [
            ("threads", tasks.leak_thread, (), lambda _: "left-alone"),
            ("files", tasks.leak_file, (str(tmp_path / "open"),), lambda fd: f"{fd} ({tmp_path / 'open'})"),
            ("connections", tasks.leak_connection, (server.getsockname(),), lambda fd: f"{fd} (socket:"),
            ("children", tasks.leak_process, (), lambda pid: f"process {pid}"),
            ("directory", tasks.leak_directory, (str(tmp_path),), lambda _: str(tmp_path)),
            ("environment", tasks.leak_variable, ("LEFT_BEHIND",), lambda _: "LEFT_BEHIND"),
            ("signal handlers", tasks.leak_handler, (), lambda _: "SIGUSR1"),
        ]
        for kind, function, arguments, described in cases:
            future = single.submit(function, *arguments)
            item = described(future.result(SHORT_S))
            event = leak_of(single, kind)
            assert (event["n"], event["n-tasks"], event["keys"]) == (1, 1, [future.key]), event
            assert item in event["items"][0]
            assert event["worker"] in single.scheduler_info()["workers"]
            lines = [text for _, text in single.get_worker_logs()[event["worker"]] if "Left behind" in text]
            assert len([line for line in lines if future.key in line and kind in line]) == 1
    assert [event["kind"] for event in events(single, TOPIC)] == [case[0] for case in cases]
    assert "secret value" not in str(events(single, TOPIC))


def test_children_end_with_the_worker(cleanup: None) -> None:
    with small_cluster(1) as client:
        child = psutil.Process(client.submit(tasks.leak_process).result(SHORT_S))
        assert child.is_running()
    poll(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_of_several_tasks_all_are_named(single: Client) -> None:
    futures = [single.submit(tasks.leak_thread, pure=False) for _ in range(30)]
    single.gather(futures)
    poll(lambda: sum(event["n"] for event in events(single, TOPIC)) == 30)
    for event in events(single, TOPIC):
        assert event["kind"] == "threads"
        assert event["n"] <= event["n-tasks"] <= 31
        assert 0 < len(event["keys"]) <= event["n-tasks"] and set(event["keys"]) <= {f.key for f in futures}


def nested(n: int) -> int:
    """Has the worker make a client, connections to others, and more slots."""
    return get_client().submit(abs, n).result()


def test_what_the_house_does_for_tasks_is_no_leak(single: Client, tmp_path: Path) -> None:
    def work() -> None:
        single.gather(single.map(nested, range(-20, 0), pure=False))
        data = single.submit(os.urandom, 500_000, pure=False)
        single.gather([data, single.submit(len, data)])
        single.submit(tasks.clean_up_after_itself, str(tmp_path), pure=False).result(SHORT_S)

    work()
    # A leak shows that the watch has looked since.
    single.submit(tasks.leak_thread, pure=False).result(SHORT_S)
    poll(lambda: events(single, TOPIC))
    work()
    single.submit(tasks.leak_variable, "LEFT", pure=False).result(SHORT_S)
    leak_of(single, "environment")
    found = [(event["kind"], event["items"]) for event in events(single, TOPIC)]
    assert found == [("threads", ["left-alone"]), ("environment", ["LEFT"])]


def test_it_can_be_switched_off(cleanup: None) -> None:
    with dask.config.set({**QUICK, "distributed.worker.leak-watch.enabled": False}), small_cluster(1) as client:
        client.submit(tasks.leak_thread).result(SHORT_S)
        assert client.run(has_sampler) == dict.fromkeys(client.scheduler_info()["workers"], False)
        assert events(client, TOPIC) == []


def has_sampler(dask_worker: Any) -> bool:
    return dask_worker._self_watch._sampler is not None
