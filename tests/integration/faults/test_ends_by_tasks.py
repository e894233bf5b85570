"""Tasks that end their thread or their process: by ``sys.exit`` and its like, by ``os._exit``, by a crash."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from distributed import Client, KilledWorker, TaskExited
from tests.integration.faults.small_cluster import SHORT_S, Journal, events, pids, poll, small_cluster
from tests.integration.faults.tasks import (
    Unusual,
    abort,
    crash,
    crash_among_many,
    end_beside_a_neighbour,
    exit_at_first,
    fork_and_leave,
    kill,
    leave,
    neighbour,
    throw,
    throw_later,
)

ENDS = [
    ((SystemExit, 4), 4, "called sys.exit(4)"),
    ((SystemExit, "some text"), "some text", "called sys.exit('some text')"),
    ((SystemExit,), None, "called sys.exit(None)"),
    ((KeyboardInterrupt,), None, "raised KeyboardInterrupt"),
    ((GeneratorExit,), None, "raised GeneratorExit"),
    ((asyncio.CancelledError, "why"), None, "raised CancelledError: why"),
    ((Unusual, "odd"), None, "raised Unusual: odd"),
]


def test_exits_are_errors_and_the_worker_lives() -> None:
    """In plain tasks, in coroutines, in named executors: ``TaskExited`` with the code, and no restart."""
    executors = {"threads": ThreadPoolExecutor(1), "processes": ProcessPoolExecutor(1, get_context("spawn"))}
    with small_cluster(executor=executors, processes=False, n_workers=1) as local:
        check_exits(local, [(throw, {"executor": name}) for name in executors])
    with small_cluster() as client:
        before = pids(client)
        check_exits(client, [(throw, {}), (throw_later, {})])
        assert pids(client) == before
        assert events(client, "worker-lost") == []


def check_exits(client: Client, ways: list[tuple[Any, dict[str, Any]]]) -> None:
    for function, options in ways:
        for arguments, code, text in ENDS:
            error = submitted(client, function, *arguments, **options).exception(SHORT_S)
            assert type(error) is TaskExited, (arguments, error)
            assert error.code == code and text in str(error)
            # What was raised, and where, is kept as far as it can be named.
            assert arguments[0].__name__ in f"{error.__cause__!r}{error.__cause__}"


def submitted(client: Client, function: Any, *args: Any, executor: str | None = None) -> Any:
    if executor is None:
        return client.submit(function, *args, pure=False)
    import dask

    with dask.annotate(executor=executor):
        return client.submit(function, *args, pure=False)


def test_exit_spends_a_retry_as_any_error_does(pair: Client, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")

    assert pair.submit(exit_at_first, journal.path, retries=1).result(SHORT_S) == 7


DEATHS = [
    (leave, 3, None, "exit code 3", "os._exit(3) was called here"),
    (crash, None, signal.SIGSEGV, "SIGSEGV", "Segmentation fault"),
    (abort, None, signal.SIGABRT, "SIGABRT", "Aborted"),
    (kill, None, signal.SIGKILL, "SIGKILL", None),
]


@pytest.mark.parametrize(("function", "code", "number", "how", "line"), DEATHS, ids=[d[0].__name__ for d in DEATHS])
def test_end_of_the_process(
    tmp_path: Path, cleanup: None, function: Any, code: int | None, number: int | None, how: str, line: str | None
) -> None:
    """``KilledWorker`` tells of each attempt where it was, how it ended, and what the process said last."""
    journal = Journal(tmp_path / "journal")
    with small_cluster(scheduler_kwargs={"allowed_failures": 1}) as client:
        known = pids(client)
        future = client.submit(function, journal.path, retries=5)
        with pytest.raises(KilledWorker) as caught:
            future.result(SHORT_S)
        assert journal.lines() == [function.__name__] * 2  # retries= is for what a task raises
        assert len(caught.value.attempts) == 2
        for attempt in caught.value.attempts:
            assert known.get(attempt.worker, attempt.pid) == attempt.pid > 0
            assert (attempt.exit_code, attempt.signal) == (code, number)
            assert attempt.host == "127.0.0.1" and attempt.peak_bytes > 2**20
            if line is not None:  # the stack of the thread that did it
                text = "\n".join(attempt.log_tail)
                assert line in text and f"in {function.__name__}\n" in text
        assert how in str(caught.value) and caught.value.attempts[0].worker in str(caught.value)
        lost = poll(lambda: found if len(found := events(client, "worker-lost")) == 2 else None)
        assert {(event["signal"], event["exit-code"]) for event in lost} == {(number, code)}
        assert client.submit(os.getpid).result(SHORT_S) > 0  # new processes took over


@pytest.mark.parametrize("function", [leave, crash, abort], ids=lambda f: f.__name__)
def test_neighbours_in_the_process_are_not_blamed(tmp_path: Path, cleanup: None, function: Any) -> None:
    """Two threads: what one of them does to the process costs the task of the other a rerun, and nothing else."""
    journal = Journal(tmp_path / "journal")

    with small_cluster(1, 2, scheduler_kwargs={"allowed_failures": 1}) as client:
        good = client.submit(neighbour, journal.path, priority=1)
        culprit = client.submit(end_beside_a_neighbour, journal.path, function)
        assert type(culprit.exception(SHORT_S)) is KilledWorker
        assert good.result(SHORT_S) == "well"
        assert client.run_on_scheduler(suspicion, good.key) == 0
        lost = events(client, "worker-lost")
        assert [event["n-rerun"] for event in lost] == [2, 1]
        assert journal.count(function.__name__) == 2 and journal.count("neighbour") == 3


def suspicion(key: str, dask_scheduler: Any) -> int:
    return dask_scheduler.tasks[key].suspicious


def test_many_stacks_do_not_hide_the_one_that_crashed(tmp_path: Path, cleanup: None) -> None:
    """A process of many threads prints more stacks than lines are kept."""

    with small_cluster(1, scheduler_kwargs={"allowed_failures": 0}) as client:
        error = client.submit(crash_among_many, str(tmp_path / "journal")).exception(SHORT_S)
        assert isinstance(error, KilledWorker)
        assert "in crash_among_many" in "\n".join(error.attempts[0].log_tail)
        assert len(error.attempts[0].log_tail) <= 52


def test_a_child_that_is_forked_off_may_leave(pair: Client) -> None:
    """Only the end of the worker itself is noted: children end as they like."""

    assert pair.submit(fork_and_leave).result(SHORT_S) == 9
    assert events(pair, "worker-lost") == []
