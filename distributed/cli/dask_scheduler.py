"""``dask-scheduler``: a scheduler as a program. Also ``dask scheduler``, ``dscheduler``, ``python -m`` this module."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from typing import Any

import click

from distributed._version import __version__
from distributed.cli.options import (
    CONTEXT_SETTINGS,
    DurationType,
    explain,
    fail,
    pid_file,
    preload_arguments,
    show_logs,
    until_signal,
)
from distributed.rpc.loop_runner import new_asyncio_loop
from distributed.scheduler import Scheduler

logger = logging.getLogger("distributed.scheduler")


@click.command(name="scheduler", context_settings=CONTEXT_SETTINGS)
@click.option("--host", type=str, default="", help="Name, IP address or URI to listen on; default: all interfaces")
@click.option("--port", type=click.IntRange(0, 65535), default=None, help="Port to listen on; default: 8786, 0: any")
@click.option("--interface", type=str, default=None, help="Network interface to listen on, like 'eth0' or 'ib0'")
@click.option("--protocol", type=str, default=None, help="Protocol, like tcp or tls")
@click.option("--contact-address", type=str, default=None, help="Address by which others reach this scheduler")
@click.option("--tls-ca-file", type=str, default=None, help="CA certificates file for TLS (PEM)")
@click.option("--tls-cert", type=str, default=None, help="Certificate file for TLS (PEM)")
@click.option("--tls-key", type=str, default=None, help="Key of the certificate (PEM file)")
@click.option("--dashboard-address", type=str, default=":8787", show_default=True, help="Where the web pages listen")
@click.option("--dashboard/--no-dashboard", default=True, help="Serve the dashboard [default: dashboard]")
@click.option("--dashboard-prefix", type=str, default=None, help="Prefix of the URLs of the web pages")
@click.option("--jupyter/--no-jupyter", default=False, help="Run a Jupyter server beside the scheduler")
@click.option("--show/--no-show", default=False, hidden=True)
@click.option("--use-xheaders", type=bool, default=False, hidden=True)
@click.option("--bokeh/--no-bokeh", default=None, hidden=True)
@click.option("--bokeh-port", type=int, default=None, hidden=True)
@click.option("--pid-file", type=str, default=None, help="Where to note the process id")
@click.option(
    "--scheduler-file",
    type=str,
    default=None,
    help="Where to write the address and the secret (JSON, for this user only)",
)
@click.option("--local-directory", type=str, default=None, hidden=True)
@click.option("--preload", type=str, multiple=True, help="Module or Python file to load, with dask_setup(scheduler)")
@click.option("--idle-timeout", type=DurationType(), default=None, help="End when nothing was asked for this long")
@click.argument("preload_argv", nargs=-1, type=click.UNPROCESSED)
@click.version_option(__version__, prog_name="dask-scheduler")
def main(
    host: str,
    port: int | None,
    interface: str | None,
    protocol: str | None,
    contact_address: str | None,
    tls_ca_file: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    dashboard_address: str,
    dashboard: bool,
    dashboard_prefix: str | None,
    jupyter: bool,
    show: bool,
    use_xheaders: bool,
    bokeh: bool | None,
    bokeh_port: int | None,
    pid_file: str | None,
    scheduler_file: str | None,
    local_directory: str | None,
    preload: tuple[str, ...],
    idle_timeout: float | None,
    preload_argv: tuple[str, ...],
) -> None:
    """Start a scheduler, to which workers and clients connect.

    Arguments behind the options go to the --preload module.
    """
    arguments = preload_arguments(preload, preload_argv)
    if tls_ca_file or tls_cert or tls_key:
        fail("TLS options are not available yet: connections are guarded by the cluster's secret", 2)
    if jupyter:
        fail("--jupyter is not available yet", 2)
    if bokeh is not None:
        dashboard = bokeh
    if bokeh_port is not None:
        dashboard_address = f":{bokeh_port}"
    options: dict[str, Any] = {
        "host": host or ("" if interface is None else None),
        "interface": interface,
        "protocol": protocol,
        "contact_address": contact_address,
        "dashboard": dashboard,
        "dashboard_address": dashboard_address,
        "scheduler_file": scheduler_file,
        "preload": list(preload),
        "preload_argv": arguments,
    }
    if port is not None:
        options["port"] = port
    else:
        options["port"] = None
    if dashboard_prefix:
        options["http_prefix"] = dashboard_prefix
    if idle_timeout is not None:
        options["idle_timeout"] = idle_timeout
    show_logs()
    with _pid_file(pid_file):
        gc.set_threshold(10_000, 20, 20)
        with asyncio.Runner(loop_factory=new_asyncio_loop) as runner:
            runner.run(_serve(options))


_pid_file = pid_file


async def _serve(options: dict[str, Any]) -> None:
    logger.info("-" * 47)
    scheduler: Any = None

    async def life() -> None:
        nonlocal scheduler
        scheduler = Scheduler(**options)
        await scheduler
        click.echo(f"Start scheduler at: {scheduler.address}", err=True)
        await scheduler.finished()

    problem = ""
    signals = None
    try:
        signals = await until_signal(life, "scheduler")
    except OSError as e:
        problem = f"the scheduler did not start: {explain(e)}"
    except Exception as e:
        problem = f"the scheduler did not start: {explain(e)}"
    if scheduler is not None:
        await scheduler.close()
    if problem:
        fail(problem)
    logger.info("End scheduler")
    if signals is not None:
        signals.finish()


if __name__ == "__main__":
    main(prog_name=os.environ.get("DASK_PROGRAM_NAME", "dask-scheduler"))
