"""S75-S81: "Customizing initialization" of the network page, with real programs."""

from __future__ import annotations

import asyncio
import os
import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed import Client, Scheduler
from distributed.testing import async_poll_for, gen_test, inc
from tests.integration.cli.test_programs import SCHEDULER, WORKER, Program, running

HERE = [*SCHEDULER, "--host", "127.0.0.1", "--port", "0"]

# Just as the page prints it: without @click.command, without add_plugin.
SEED_FILE = """\
import click

from distributed.diagnostics.plugin import SchedulerPlugin

class MyPlugin(SchedulerPlugin):
    def __init__(self, print_count):
      self.print_count = print_count

    def add_worker(self, scheduler=None, worker=None, **kwargs):
        print("Added a new worker at:", worker)
        if self.print_count and scheduler is not None:
            print("Total workers:", len(scheduler.workers))

@click.option("--print-count/--no-print-count", default=False)
def dask_setup(scheduler, print_count):
    plugin = MyPlugin(print_count)
"""

TELLS = """
import asyncio
def say(*words):
    print("preload:", *words, flush=True)
say("imported")
async def dask_setup(service):
    await asyncio.sleep(0)
    say("setup", type(service).__name__, service.address, len(getattr(service, "workers", ())))
def dask_teardown(service):
    say("teardown", type(service).__name__)
"""


@pytest.fixture(autouse=True)
def private(private_places: None) -> None:
    """All tests of this file."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preloads")
    (path / "seed.py").write_text(SEED_FILE)
    (path / "complete.py").write_text(SEED_FILE + "    scheduler.add_plugin(plugin)\n")
    (path / "tells.py").write_text(TELLS)
    for name, option in (("first", "--word"), ("second", "--count")):
        (path / f"{name}.py").write_text(
            textwrap.dedent(f"""\
            import click
            @click.command()
            @click.option("{option}", default="none")
            def dask_setup(service, {option[2:]}):
                print("preload: {name}", type(service).__name__, {option[2:]}, flush=True)
            """)
        )
    (path / "broken.py").write_text("def dask_setup(service):\n    raise ValueError('not today')\n")
    return path


@pytest.fixture
def scheduler(folder: Path) -> Iterator[tuple[Program, str]]:
    args = [*HERE, "--preload", str(folder / "complete.py"), "--print-count"]
    with running(args, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as program:
        yield program, program.line(r"Start scheduler at: +(\S+)")


def told(program: Program) -> list[str]:
    """What the preloads of a program have printed, when it has been ended."""
    _, text = program.end()
    return [line.removeprefix("preload: ") for line in text.splitlines() if line.startswith("preload: ")]


def test_s80_the_file_of_the_page_verbatim(folder: Path) -> None:
    with running([*HERE, "--preload", str(folder / "seed.py"), "--print-count"]) as program:
        assert program.line(r"Start scheduler at: +(\S+)")
        code, text = program.end()
    assert code == 128 + signal.SIGTERM
    assert "Traceback" not in text


def test_s75_s77_s78_s79_s81_scheduler_and_worker(scheduler: tuple[Program, str], folder: Path) -> None:
    program, address = scheduler
    preloads = ["--preload", str(folder / "first.py"), "--preload", "second", "--preload", str(folder / "tells.py")]
    env = {**os.environ, "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}
    with running([*WORKER, address, "--no-nanny", *preloads, "--count", "3", "--word", "hello"], env=env) as worker:
        worker.line("Registered with Scheduler")
        assert program.process.stdout is not None
        lines = [program.process.stdout.readline() for _ in range(2)]
        assert lines[0].startswith("Added a new worker at: tcp://")
        assert lines[1] == "Total workers: 1\n"
        with Client(address, timeout="10s") as client:
            assert client.submit(inc, 1).result(timeout=10) == 2
        said = told(worker)
    assert said[0] == "imported"
    assert said[1:3] == ["first Worker hello", "second Worker 3"]
    assert said[3].startswith("setup Worker tcp://")
    assert said[4:] == ["teardown Worker"]


def test_s75_nanny_and_its_worker(scheduler: tuple[Program, str], folder: Path) -> None:
    _, address = scheduler
    preloads = ["--preload", str(folder / "first.py"), "--preload-nanny", str(folder / "tells.py"), "--word", "hi"]
    with running([*WORKER, address, *preloads]) as worker:
        worker.line("Registered with Scheduler")
        said = told(worker)
    assert said[0] == "imported"
    assert said[1].startswith("setup Nanny tcp://")
    assert said[2:] == ["first Worker hi", "teardown Nanny"]


def test_s76_before_any_connection(folder: Path) -> None:
    """A worker imports before it looks for its scheduler, and a scheduler lets nobody in before all is set up."""
    args = [*WORKER, "127.0.0.1:1", "--death-timeout", "0.2", "--no-nanny", "--preload", str(folder / "tells.py")]
    with running(args) as worker:
        code, text = worker.end_by_itself()
    assert code == 1
    assert text.count("preload: imported") == 1
    with running([*HERE, "--preload", str(folder / "tells.py")]) as program:
        program.line(r"Start scheduler at: +(\S+)")
        said = told(program)
    assert said[0] == "imported"
    assert said[1].startswith("setup Scheduler tcp://127.0.0.1:")
    assert said[1].endswith(" 0")
    assert said[2:] == ["teardown Scheduler"]


GATED = """
import asyncio
async def dask_setup(service):
    service.gate = asyncio.Event()
    await service.gate.wait()
"""


@gen_test()
async def test_s76_nobody_is_let_in_before_an_async_setup_is_done() -> None:
    s: Any = Scheduler(host="127.0.0.1", port=0, preload=GATED)
    starting = asyncio.ensure_future(s.start())
    await async_poll_for(lambda: hasattr(s, "gate"), timeout=10)
    s.share_secret()
    try:
        process = await asyncio.create_subprocess_exec(
            *WORKER, s.address, "--no-nanny", stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await async_poll_for(lambda: s.connections, timeout=30)
            assert not s.workers and s.status.name == "starting"
            s.gate.set()
            await starting
            await async_poll_for(lambda: len(s.workers) == 1, timeout=10)
        finally:
            process.terminate()
            await process.wait()
    finally:
        await s.close()


def test_named_by_the_configuration(folder: Path) -> None:
    env = {
        **os.environ,
        "DASK_DISTRIBUTED__SCHEDULER__PRELOAD": f'["{folder / "first.py"}"]',
        "DASK_DISTRIBUTED__SCHEDULER__PRELOAD_ARGV": '["--word", "set"]',
        "DASK_DISTRIBUTED__WORKER__PRELOAD": f'["{folder / "tells.py"}"]',
        "DASK_DISTRIBUTED__NANNY__PRELOAD": f'["{folder / "tells.py"}"]',
    }
    with running(HERE, env=env) as scheduler:
        address = scheduler.line(r"Start scheduler at: +(\S+)")
        with running([*WORKER, address], env=env) as worker:
            worker.line("Registered with Scheduler")
            assert [line.split()[:2] for line in told(worker) if "setup" in line] == [
                ["setup", "Nanny"],
                ["setup", "Worker"],
            ]
        assert told(scheduler) == ["first Scheduler set"]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--preload", "no_such_module"], "--preload no_such_module cannot be imported"),
        (["--preload", "/no/such/file.py"], "there is no file '/no/such/file.py'"),
        (["--preload", "{folder}/broken.py"], "dask_setup of preload {folder}/broken.py: not today"),
        (["--preload", "{folder}/first.py", "--wrod", "x"], "arguments that no preload takes: --wrod x"),
        (["--preload", "{folder}/first.py", "--preload", "{folder}/second.py", "--count", "1", "--x"], "takes: --x"),
    ],
)
def test_errors_name_the_preload(args: list[str], text: str, folder: Path) -> None:
    with running([*HERE, *[arg.format(folder=folder) for arg in args]]) as program:
        code, said = program.end_by_itself()
    assert code == 1
    assert text.format(folder=folder) in said.splitlines()[-1]
    assert "Traceback" not in said
