"""Limits, processes of their own, retries with waits, and jobs that outlive their client."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import dask
import pytest

from distributed import (
    Client,
    Retry,
    TaskProcessDied,
    TaskTimeoutError,
    fire_and_forget,
)
from tests.integration.tasks.bodies import apart, asleep, deaf, noted, polite, stubborn, until
from tests.integration.tasks.test_cancel import busy


@pytest.mark.parametrize("function", [polite, stubborn, asleep])
def test_a_run_takes_no_longer_than_it_may(client: Client, tmp_path: Path, function: Any) -> None:
    future = client.submit(function, str(tmp_path), timeout="200ms", key=f"limited-{function.__name__}")
    with pytest.raises(TimeoutError) as caught:
        future.result(30)
    error = caught.value
    assert type(error) is TaskTimeoutError
    assert error.task == future.key and error.limit_s == 0.2 and error.worker in client.scheduler_info()["workers"]
    assert "limit of 0.2 s" in str(error) and error.worker in str(error)
    noted(tmp_path, "ended")
    until(lambda: busy(client) == 0, "a free slot")


def test_the_future_errs_though_the_thread_hears_nothing(client: Client, tmp_path: Path) -> None:
    start = time.monotonic()
    future = client.submit(deaf, str(tmp_path), 2.0, timeout=0.2)
    assert type(future.exception(30)) is TaskTimeoutError
    if time.monotonic() - start < 2:
        assert busy(client) == 1
    until(lambda: busy(client) == 0, "a free slot")


def test_a_limit_by_annotation_and_for_each_of_a_map(client: Client, tmp_path: Path) -> None:
    with dask.annotate(timeout=0.2):
        assert type(client.submit(polite, str(tmp_path)).exception(30)) is TaskTimeoutError
    futures = client.map(time.sleep, [0, 0.01], timeout="1 minute", pure=False)
    assert client.gather(futures) == [None, None]


def takes_timeout(x: int, timeout: float = 0) -> tuple[int, float]:
    return x, timeout


def takes_all(**keywords: Any) -> dict[str, Any]:
    return keywords


def test_a_function_that_takes_a_timeout_gets_it(client: Client) -> None:
    assert client.submit(takes_timeout, 1, timeout=5).result(30) == (1, 5)
    assert client.submit(takes_all, isolated=1, max_restarts=2).result(30) == {"isolated": 1, "max_restarts": 2}


def whereabouts(x: Any) -> Any:
    return os.getpid(), x


def fail_apart() -> None:
    raise LookupError("as asked")


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


async def add(x: int) -> int:
    return x + 1


def test_a_process_of_its_own(client: Client, tmp_path: Path) -> None:
    import numpy as np

    one = client.submit(np.arange, 100_000)
    pid, array = client.submit(whereabouts, one, isolated=True).result(60)
    assert pid not in {os.getpid(), *client.run(os.getpid).values()} and array.sum() == sum(range(100_000))
    assert client.submit(add, 1, isolated=True).result(60) == 2
    with pytest.raises(LookupError, match="as asked"):
        client.submit(fail_apart, isolated=True).result(60)
    with pytest.raises(TaskProcessDied, match="SIGSEGV"):
        client.submit(crash, isolated=True).result(60)
    assert type(client.submit(sys.exit, 3, isolated=True).exception(60)).__name__ == "TaskExited"
    late = client.submit(apart, str(tmp_path), isolated=True, timeout=2)
    assert type(late.exception(60)) is TaskTimeoutError
    if (tmp_path / "begun").exists():
        pid = int(noted(tmp_path, "begun"))
        until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the process")


def fail_at_first(place: str, times: int, error: str) -> int:
    """Raises so often; each run leaves a file with the time."""
    n = len(list(Path(place).iterdir()))
    Path(place, str(n)).write_text(repr(time.time()))
    if n < times:
        raise {"os": FileNotFoundError, "value": ValueError}[error](f"run {n}")
    return n


def test_retries_wait_longer_and_longer(client: Client, tmp_path: Path) -> None:
    rule = Retry(3, backoff="100ms", on=OSError)
    assert client.submit(fail_at_first, str(tmp_path), 2, "os", retries=rule).result(30) == 2
    times = [float((tmp_path / str(n)).read_text()) for n in range(3)]
    assert times[1] - times[0] >= 0.09 and times[2] - times[1] >= 0.19


def test_only_some_exceptions_deserve_another_run(client: Client, tmp_path: Path) -> None:
    with dask.annotate(retries=Retry(3, on=("builtins.OSError", TimeoutError))):
        future = client.submit(fail_at_first, str(tmp_path), 2, "value")
    with pytest.raises(ValueError, match="run 0"):
        future.result(30)
    (tmp_path / "0").unlink()
    again = client.submit(polite, str(tmp_path), timeout=0.1, retries=Retry(1, on=TaskTimeoutError))
    assert type(again.exception(30)) is TaskTimeoutError


def test_one_that_waits_for_its_next_run_can_be_cancelled(client: Client, tmp_path: Path) -> None:
    future = client.submit(fail_at_first, str(tmp_path), 9, "os", retries=Retry(3, backoff=600), key="waits")
    until(lambda: "runs again in" in str(client.why(future)), "the wait")
    future.cancel()
    until(lambda: client.run_on_scheduler(lambda dask_scheduler: "waits" not in dask_scheduler.tasks), "its end")


BAD = [
    ({"timeout": "soon"}, TypeError, "timeout="),
    ({"timeout": True}, TypeError, "timeout="),
    ({"timeout": 0}, ValueError, "more than 0"),
    ({"isolated": "yes"}, TypeError, "isolated="),
    ({"max_restarts": 1}, ValueError, "actor=True"),
    ({"max_restarts": "x", "actor": True}, TypeError, "max_restarts="),
    ({"max_restarts": -1, "actor": True}, ValueError, "negative"),
    ({"isolated": True, "actor": True}, ValueError, "isolated="),
]


@pytest.mark.parametrize(("options", "kind", "text"), BAD)
def test_bad_options(client: Client, options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        client.submit(whereabouts, 1, **options)
    with pytest.raises(kind, match=text):
        client.map(whereabouts, [1], **options)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"max": "3"}, TypeError),
        ({"max": -1}, ValueError),
        ({"max": 1, "backoff": "x"}, TypeError),
        ({"max": 1, "backoff": -1}, ValueError),
        ({"max": 1, "on": 5}, TypeError),
        ({"max": 1, "factor": 0.5}, ValueError),
    ],
)
def test_bad_retries(arguments: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind, match="Retry"):
        Retry(**arguments)


def test_detached_jobs_survive_their_client_and_are_found_by_others(cluster: Any, tmp_path: Path) -> None:
    with Client(cluster, set_as_default=False) as first:
        fire_and_forget(first.submit(polite, str(tmp_path), key="detached"))
        noted(tmp_path, "begun")
    with Client(cluster, set_as_default=False) as second:
        jobs = second.list_detached()
        assert jobs["detached"]["state"] == "processing"
        assert jobs["detached"]["worker"] in second.scheduler_info()["workers"]
        assert second.cancel_detached("nobody-knows") == []
        with pytest.raises(TypeError, match="cancel_detached"):
            second.cancel_detached([None])
        assert second.cancel_detached(["detached"], reason="enough") == ["detached"]
        assert noted(tmp_path, "ended") == "was asked"
        assert second.list_detached() == {}
