"""``dask-scheduler``: a scheduler as a program. Also ``dask scheduler``, ``dscheduler``, ``python -m`` this module."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from typing import Any

import click

from distributed._version import __version__
from distributed.base import log_setup
from distributed.base.ending import until_signal
from distributed.cli.command import (
    ANY_PATH,
    Command,
    DurationType,
    InterfaceType,
    auth_options,
    group,
    older,
    open_up,
    security_of,
    tls_options,
)
from distributed.cli.options import exit_code, explain, fail, pid_file, preload_arguments
from distributed.rpc.loop_runner import new_asyncio_loop
from distributed.scheduler import Scheduler

logger = logging.getLogger("distributed.scheduler")

network, web, life = group("Network"), group("Web pages"), group("Life and files")


@click.command(name="scheduler", cls=Command)
@network("--host", type=str, help="Name, IP address or URI to listen on; default: all interfaces")
@network("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0: any; default: 8786, or the next if taken")
@network("--interface", type=InterfaceType(), help="Network interface to listen on, like eth0 or ib0")
@network("--protocol", type=str, help="Protocol, like tcp or tls; default: tcp")
@network("--contact-address", type=str, help="Address by which others reach this scheduler, if not the one above")
@tls_options("scheduler")
@auth_options
@web("--dashboard-address", type=str, default=":8787", show_default=True, help="Where the web server listens")
@web("--dashboard/--no-dashboard", default=True, help="With or without web pages; /health and /json stay")
@web("--dashboard-prefix", type=str, help="Prefix of the URLs of the web pages")
@web("--jupyter/--no-jupyter", default=False, help="Run a Jupyter server beside the scheduler")
@life("--scheduler-file", type=ANY_PATH, help="Write address and secret there (JSON, mode 0600); removed at the end")
@life("--pid-file", type=ANY_PATH, help="Write the process id there; removed at the end")
@life("--idle-timeout", type=DurationType(), help="End when there was nothing to do for this long, like '1 hour'")
@life("--preload", type=ANY_PATH, multiple=True, help="Module or file to load first, with dask_setup(scheduler)")
@older("--show/--no-show", note="--show has no effect any more: open the printed address in a browser")
@older("--use-xheaders", type=bool, note="--use-xheaders has no effect any more")
@older("--bokeh/--no-bokeh", note="--bokeh is now --dashboard", becomes="dashboard")
@older("--bokeh-port", "--bokeh-external-port", type=int, note="--bokeh-port is now --dashboard-address",
       becomes="dashboard_address", convert=lambda port: f":{port}")  # fmt: skip
@older("--bokeh-internal-port", type=int, note="--bokeh-internal-port has no effect: there is one web server")
@older("--bokeh-prefix", "--prefix", note="--bokeh-prefix is now --dashboard-prefix", becomes="dashboard_prefix")
@older("--bokeh-whitelist", multiple=True, note="--bokeh-whitelist has no effect: the web pages use no Bokeh")
@older("--http-port", type=int, note="--http-port has no effect: JSON is under /json of the web pages")
@older("--local-directory", type=ANY_PATH, note="--local-directory has no effect: a scheduler needs no disk")
@click.argument("preload_argv", nargs=-1, type=click.UNPROCESSED)
@click.version_option(__version__, prog_name="dask-scheduler")
@click.pass_context
def main(context: click.Context, /, **given: Any) -> None:
    """Start a scheduler, to which workers and clients connect.

    It listens on port 8786 (web pages: 8787) and prints its address. Arguments behind the options go to the --preload
    module. Exit codes: 0 in order, 1 it could not start, 2 a wrong command line, 128 + n ended by signal n.
    """
    note = given.pop("pid_file")
    options = scheduler_options(context, given)
    log_setup.show()
    with pid_file(note):
        gc.set_threshold(10_000, 20, 20)
        with asyncio.Runner(loop_factory=new_asyncio_loop) as runner:
            runner.run(_serve(options))


def scheduler_options(context: click.Context, given: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``Scheduler`` from those of the command line."""
    open_up(given)
    options = dict(given)
    options["security"] = security_of(options, "scheduler")
    options["preload_argv"] = preload_arguments(context, options, "scheduler")
    options["preload"] = list(options["preload"]) or None
    options["http_prefix"] = options.pop("dashboard_prefix")
    if not options["host"]:  # None means loopback to a Scheduler
        options["host"] = "" if options["interface"] is None else None
    if options["jupyter"]:
        fail("--jupyter is not available yet", 2)
    return options


async def _serve(options: dict[str, Any]) -> None:
    logger.info("-" * 47)
    scheduler: Any = None

    async def life() -> None:
        nonlocal scheduler
        scheduler = Scheduler(**options)
        await scheduler
        click.echo(f"Start scheduler at: {scheduler.address}", err=True)
        if scheduler.http_server is not None and sys.stderr.isatty():  # not into files that others may read
            click.echo(f"Web pages, for one browser: {scheduler.http_server.sign_in_link}", err=True)
        await scheduler.finished()

    problem = ""
    code = 1
    signals = None
    try:
        signals = await until_signal(life, "scheduler")
    except Exception as e:
        problem, code = f"the scheduler did not start: {explain(e)}", exit_code(e)
    if scheduler is not None:
        await scheduler.close()
    if problem:
        fail(problem, code)
    logger.info("End scheduler")
    if signals is not None:
        signals.finish()


if __name__ == "__main__":
    main(prog_name=os.environ.get("DASK_PROGRAM_NAME", "dask-scheduler"))
