"""What all our commands have in common: groups in the help, older options, errors in one line, completion."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from distributed.cli import dask_scheduler, dask_worker
from distributed.cli.command import Command, group, older
from distributed.cli.dask_scheduler import scheduler_options
from distributed.cli.dask_worker import read_options


@click.command(cls=Command)
@group("Fruit")("--apples", type=int, default=1, help="How many")
@older("--pears", type=int, note="--pears is now --apples", becomes="apples", convert=lambda n: n + 1)
@older("--plums/--no-plums", note="--plums has no effect")
def toy(**given: Any) -> None:
    """A toy."""
    click.echo(f"given {sorted(given.items())}")


def scheduler(*args: str) -> dict[str, Any]:
    context = dask_scheduler.main.make_context("dask-scheduler", list(args))
    context.params.pop("pid_file")
    return scheduler_options(context, context.params)


def worker(*args: str) -> Any:
    context = dask_worker.main.make_context("dask-worker", ["127.0.0.1:8786", *args])
    context.params.pop("pid_file")
    return read_options(context, context.params)


def test_help_has_groups_and_hides_older_options() -> None:
    text = CliRunner().invoke(toy, ["--help"]).output
    assert text.index("Fruit:") < text.index("--apples") < text.index("Other:") < text.index("--help")
    assert "pears" not in text


def test_older_options_work_and_are_noted() -> None:
    result = CliRunner().invoke(toy, ["--pears", "3", "--no-plums"])
    assert result.stdout == "given [('apples', 4)]\n"
    assert result.stderr == "Note: --pears is now --apples\nNote: --plums has no effect\n"
    assert "('apples', 7)" in CliRunner().invoke(toy, ["--pears", "3", "--apples", "7"]).stdout


@pytest.mark.parametrize(
    ("args", "text"),
    [(["--aples", "1"], "--apples"), (["--apples", "x"], "'x' is not a valid integer"), (["more"], "more")],
)
def test_errors_are_one_line(args: list[str], text: str) -> None:
    result = CliRunner().invoke(toy, args)
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert text in result.output


def test_historic_options_of_the_scheduler() -> None:
    options = scheduler(
        "--bokeh-port", "1234", "--no-bokeh", "--bokeh-internal-port", "1", "--bokeh-prefix", "/x", "--bokeh-whitelist",
        "*", "--http-port", "9786", "--local-directory", "/tmp", "--show", "--use-xheaders", "1",
    )  # fmt: skip
    assert options["dashboard_address"] == ":1234"
    assert options["dashboard"] is False
    assert options["http_prefix"] == "/x"


def test_historic_options_of_the_worker() -> None:
    program = worker(
        "--nprocs", "2", "--port", "9000:9001", "--no-reconnect", "--no-bokeh", "--bokeh-port", "8789", "--http-port",
        "1", "--dashboard-prefix", "/w", "--ncores", "3",
    )  # fmt: skip
    assert program.names == [None, None]
    for name, value in {
        "worker_port": "9000:9001",
        "dashboard": False,
        "dashboard_address": ":8789",
        "nthreads": 3,
        "http_prefix": "/w",
    }.items():
        assert program.options[name] == value
    assert worker("-worker-port", "9000").options["worker_port"] == "9000"  # as a page of 2017 prints it


def test_what_is_not_given_is_left_to_the_configuration() -> None:
    assert scheduler()["preload"] is None
    options = worker().options
    assert not {"preload", "lifetime", "lifetime_stagger", "lifetime_restart", "preload_nanny"} & set(options)


@pytest.mark.parametrize(
    ("args", "listen"),
    [
        ([], None),
        (["--contact-address", "tcp://127.0.0.1:9000"], "tcp://127.0.0.1:9000"),
        (["--contact-address", "tcp://192.0.2.1:9000"], "tcp://0.0.0.0:9000"),
        (["--contact-address", "192.0.2.1"], None),
        (["--contact-address", "tcp://192.0.2.1:9000", "--worker-port", "9001"], None),
        (["--contact-address", "tcp://192.0.2.1:9000", "--listen-address", "tcp://127.0.0.1:1"], "tcp://127.0.0.1:1"),
    ],
)
def test_where_a_worker_listens_when_others_reach_it_elsewhere(args: list[str], listen: str | None) -> None:
    assert worker(*args).options.get("listen_address") == listen


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--listen-address", "tcp://0.0.0.0:9", "--host", "x"], "--listen-address"),
        (["--nworkers", "3", "--worker-port", "9000:9001"], "2 ports for 3 workers"),
        (["--memory-limit", "5XB"], "5XB"),
        (["--no-nanny", "--preload-nanny", "x"], "--preload-nanny"),
        (["--tls-cert", "/no/such/file"], "/no/such/file"),
        (["--lifetime", "soon"], "soon"),
        (["--nthreads", "-1"], "-1"),
    ],
)
def test_what_does_not_go_together(args: list[str], text: str) -> None:
    result = CliRunner().invoke(dask_worker.main, ["127.0.0.1:8786", *args])
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert text in result.output


def test_completion_by_the_shell() -> None:
    script = CliRunner().invoke(
        dask_worker.main, env={"_DASK_WORKER_COMPLETE": "bash_source"}, prog_name="dask-worker", catch_exceptions=False
    )
    assert "complete" in script.output
    words = {"COMP_WORDS": "dask-worker --interface l", "COMP_CWORD": "2", "_DASK_WORKER_COMPLETE": "bash_complete"}
    assert "plain,lo" in CliRunner().invoke(dask_worker.main, env=words, prog_name="dask-worker").output
