"""Option parsing of the command lines."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from distributed import __version__
from distributed.cli import dask_scheduler, dask_worker
from distributed.cli.dask_worker import parse_resources, worker_counts
from distributed.cli.options import parse_ports
from distributed.deploy.utils import CPU_COUNT, nprocesses_nthreads


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, [None]), ("", [None]), ("9000", [9000]), (9000, [9000]), ("0", [0]), ("9000:9002", [9000, 9001, 9002])],
)
def test_parse_ports(text: str | None, expected: list[int | None]) -> None:
    assert parse_ports(text) == expected


@pytest.mark.parametrize("text", ["x", "9000:", ":9000", "9002:9000", "9000:9000", "70000", "-1", "1:2:3"])
def test_bad_ports(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        parse_ports(text)


@pytest.mark.parametrize(
    ("n_workers", "nthreads", "expected"),
    [
        (None, 0, (1, CPU_COUNT)),
        (None, 3, (1, 3)),
        ("2", 0, (2, max(1, CPU_COUNT // 2))),
        ("2", 5, (2, 5)),
        ("-1", 0, (CPU_COUNT, 1)),
        ("auto", 0, nprocesses_nthreads()),
    ],
)
def test_worker_counts(n_workers: str | None, nthreads: int, expected: tuple[int, int]) -> None:
    assert worker_counts(n_workers, nthreads) == expected


@pytest.mark.parametrize(("n_workers", "nthreads"), [("0", 0), ("x", 0), ("-1000", 0), ("auto", 2), ("1", -1)])
def test_bad_worker_counts(n_workers: str, nthreads: int) -> None:
    with pytest.raises(click.UsageError):
        worker_counts(n_workers, nthreads)


def test_resources() -> None:
    assert parse_resources(None) is None
    assert parse_resources("GPU=2 MEM=10e9") == {"GPU": 2, "MEM": 10e9}
    assert parse_resources("GPU=2,MEM=1") == {"GPU": 2, "MEM": 1}
    for bad in ("GPU", "GPU=x", "=1"):
        with pytest.raises(ValueError, match="--resources"):
            parse_resources(bad)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (dask_scheduler.main, ["--host", "--port", "--interface", "--scheduler-file", "--dashboard-address",
                               "--preload", "--pid-file", "--idle-timeout", "--protocol"]),
        (dask_worker.main, ["--worker-port", "--nanny-port", "--nthreads", "--nworkers", "--name", "--memory-limit",
                            "--nanny / --no-nanny", "--death-timeout", "--scheduler-file", "--resources", "--lifetime",
                            "--local-directory", "--interface", "--preload", "--contact-address", "--listen-address"]),
    ],
)  # fmt: skip
def test_help_lists_ports_and_options(command: click.Command, options: list[str]) -> None:
    for flag in ("--help", "-h"):
        result = CliRunner().invoke(command, [flag])
        assert result.exit_code == 0
        for option in options:
            assert option in result.output
    assert "8786" in CliRunner().invoke(dask_scheduler.main, ["--help"]).output


@pytest.mark.parametrize(
    ("command", "arguments", "text"),
    [
        (dask_scheduler.main, ["--frobnicate"], "--frobnicate"),
        (dask_scheduler.main, ["--port", "x"], "--port"),
        (dask_scheduler.main, ["--port", "70000"], "--port"),
        (dask_scheduler.main, ["surplus"], "surplus"),
        (dask_scheduler.main, ["--idle-timeout", "soon"], "soon"),
        (dask_worker.main, [], "scheduler"),
        (dask_worker.main, ["127.0.0.1:8786", "--frobnicate"], "--frobnicate"),
        (dask_worker.main, ["--frobnicate"], "--frobnicate"),
        (dask_worker.main, ["127.0.0.1:8786", "--worker-port", "9:1"], "port"),
        (dask_worker.main, ["127.0.0.1:8786", "--no-nanny", "--nworkers", "2"], "--no-nanny"),
        (dask_worker.main, ["127.0.0.1:8786", "--no-nanny", "--nanny-port", "1"], "--nanny-port"),
        (dask_worker.main, ["127.0.0.1:8786", "--nworkers", "0"], "--nworkers"),
        (dask_worker.main, ["127.0.0.1:8786", "--resources", "GPU"], "--resources"),
        (dask_worker.main, ["127.0.0.1:8786", "--worker-class", "nowhere.Nothing"], "nowhere"),
    ],
)
def test_bad_options(command: click.Command, arguments: list[str], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert text in result.output
    assert "Traceback" not in result.output


def test_version() -> None:
    for command in (dask_scheduler.main, dask_worker.main):
        result = CliRunner().invoke(command, ["--version"])
        assert result.exit_code == 0
        assert result.output.split()[-1] == __version__


def test_pid_file_that_cannot_be_written(tmp_path: Path) -> None:
    result = CliRunner().invoke(dask_scheduler.main, ["--port", "0", "--pid-file", str(tmp_path / "no" / "pid")])
    assert result.exit_code == 1
    assert "--pid-file" in result.output
