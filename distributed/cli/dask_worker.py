"""``dask-worker``: workers as a program. Also ``dask worker``, ``dworker`` and ``python -m`` this module."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
from typing import Any

import click

from distributed._version import __version__
from distributed.base import defaults, settings
from distributed.cli.options import (
    CONTEXT_SETTINGS,
    DurationType,
    PortsType,
    StartError,
    explain,
    fail,
    parse_ports,
    pid_file,
    preload_arguments,
    show_logs,
    until_signal,
    wait_for_scheduler_file,
)
from distributed.comm.addressing import as_host_port
from distributed.deploy.utils import CPU_COUNT, nprocesses_nthreads
from distributed.nanny import Nanny
from distributed.rpc.loop_runner import new_asyncio_loop

logger = logging.getLogger("distributed.worker")

CLOSE_TIMEOUT_S = 10.0


@click.command(name="worker", context_settings=CONTEXT_SETTINGS)
@click.argument("scheduler", type=str, required=False)
@click.option("--tls-ca-file", type=str, default=None, help="CA certificates file for TLS (PEM)")
@click.option("--tls-cert", type=str, default=None, help="Certificate file for TLS (PEM)")
@click.option("--tls-key", type=str, default=None, help="Key of the certificate (PEM file)")
@click.option("--scheduler-sni", type=str, default=None, hidden=True)
@click.option(
    "--worker-port",
    "--port",
    type=PortsType(),
    default=None,
    help="Port of the worker, or first:last for several; default: any",
)
@click.option(
    "--nanny-port", type=PortsType(), default=None, help="Port of the nanny, or first:last for several; default: any"
)
@click.option("--dashboard-address", type=str, default=":0", show_default=True, help="Where the web pages listen")
@click.option("--dashboard/--no-dashboard", default=True, help="Serve web pages [default: dashboard]")
@click.option("--dashboard-prefix", type=str, default=None, help="Prefix of the URLs of the web pages")
@click.option("--bokeh/--no-bokeh", default=None, hidden=True)
@click.option("--bokeh-port", type=int, default=None, hidden=True)
@click.option("--listen-address", type=str, default=None, help="Address to bind, like tcp://0.0.0.0:9000")
@click.option("--contact-address", type=str, default=None, help="Address by which others reach this worker")
@click.option("--host", type=str, default=None, help="Name or IP address to bind and to be reached by")
@click.option("--interface", type=str, default=None, help="Name of the network interface, such as 'eth0'")
@click.option("--protocol", type=str, default=None, help="Protocol, like tcp or tls")
@click.option(
    "--nthreads", "--nthreads-per-worker", type=int, default=0, help="Threads of each worker; default: cores / nworkers"
)
@click.option(
    "--nworkers",
    "--nprocs",
    "n_workers",
    type=str,
    default=None,
    help="Number of workers; 'auto': by the cores; negative: cores + 1 + this; default: 1",
)
@click.option("--name", type=str, default=None, help="Name of this worker; with several, name-0, name-1, ...")
@click.option(
    "--memory-limit",
    default="auto",
    show_default=True,
    help="Memory of each worker: bytes, a fraction of the machine's, text like 5GB, auto, or 0 for no limit",
)
@click.option("--reconnect/--no-reconnect", default=None, hidden=True)
@click.option("--nanny/--no-nanny", default=True, help="Run each worker in a process that is watched [default: nanny]")
@click.option("--pid-file", type=str, default=None, help="Where to note the process id")
@click.option("--local-directory", type=str, default=None, help="Directory for files of the workers")
@click.option("--resources", type=str, default=None, help='Resources of each worker, like "GPU=2 MEM=10e9"')
@click.option("--scheduler-file", type=str, default=None, help="File with the scheduler's address; waited for")
@click.option(
    "--death-timeout", type=DurationType(), default=None, help="Give up when there is no scheduler for this long"
)
@click.option("--lifetime", type=DurationType(), default=None, help="End in good order after this long")
@click.option("--lifetime-stagger", type=DurationType(), default=0, help="Random spread of the lifetime")
@click.option(
    "--lifetime-restart/--no-lifetime-restart", default=False, help="When the lifetime has passed, start anew"
)
@click.option("--worker-class", type=str, default=None, help="Class of the workers, as package.module.Class")
@click.option("--preload", type=str, multiple=True, help="Module or Python file to load, with dask_setup(worker)")
@click.option("--preload-nanny", type=str, multiple=True, help="The same for the nanny")
@click.argument("preload_argv", nargs=-1, type=click.UNPROCESSED)
@click.version_option(__version__, prog_name="dask-worker")
@click.pass_context
def main(
    context: click.Context,
    scheduler: str | None,
    tls_ca_file: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    scheduler_sni: str | None,
    worker_port: str | None,
    nanny_port: str | None,
    dashboard_address: str,
    dashboard: bool,
    dashboard_prefix: str | None,
    bokeh: bool | None,
    bokeh_port: int | None,
    listen_address: str | None,
    contact_address: str | None,
    host: str | None,
    interface: str | None,
    protocol: str | None,
    nthreads: int,
    n_workers: str | None,
    name: str | None,
    memory_limit: str,
    reconnect: bool | None,
    nanny: bool,
    pid_file: str | None,
    local_directory: str | None,
    resources: str | None,
    scheduler_file: str | None,
    death_timeout: float | None,
    lifetime: float | None,
    lifetime_stagger: float,
    lifetime_restart: bool,
    worker_class: str | None,
    preload: tuple[str, ...],
    preload_nanny: tuple[str, ...],
    preload_argv: tuple[str, ...],
) -> None:
    """Start workers that connect to SCHEDULER, an address like tcp://127.0.0.1:8786.

    Without SCHEDULER the address comes from --scheduler-file or the configuration (scheduler-address). Further
    arguments go to the --preload module.
    """
    if scheduler is not None and scheduler.startswith("-"):
        preload_argv = (scheduler, *preload_argv)
        scheduler = None
    arguments = preload_arguments(preload, preload_argv)
    if tls_ca_file or tls_cert or tls_key:
        fail("TLS options are not available yet: connections are guarded by the cluster's secret", 2)
    if bokeh is not None:
        dashboard = bokeh
    if bokeh_port is not None:
        dashboard_address = f":{bokeh_port}"
    count, threads = worker_counts(n_workers, nthreads)
    if count > 1 and not nanny:
        raise click.UsageError("--no-nanny runs one worker in this process: it cannot go with --nworkers > 1")
    if count > 1 and listen_address:
        raise click.UsageError("--listen-address names one port: it cannot go with --nworkers > 1")
    if contact_address and not listen_address:
        listen_address = contact_address
    if listen_address and (host or interface or worker_port):
        if contact_address != listen_address:
            raise click.UsageError("--listen-address says it all: leave out --host, --interface and --worker-port")
        listen_address = None
    if death_timeout is None:
        death_timeout = settings.get_seconds("distributed.worker.death-timeout", None)
    if scheduler is None and scheduler_file is None:
        scheduler = settings.get("scheduler-address", None)
        if not scheduler:
            raise click.UsageError("no scheduler: name its address, or --scheduler-file, or set DASK_SCHEDULER_ADDRESS")
    try:
        resource_table = parse_resources(resources)
        cls = defaults.load(worker_class) if worker_class else None
    except (ValueError, ImportError) as e:
        fail(str(e), 2)

    options: dict[str, Any] = {
        "nthreads": threads,
        "resources": resource_table,
        "memory_limit": memory_limit,
        "dashboard": dashboard,
        "dashboard_address": dashboard_address,
        "local_directory": local_directory,
        "host": host,
        "interface": interface,
        "protocol": protocol,
        "contact_address": contact_address,
        "death_timeout": death_timeout,
        "preload": list(preload),
        "preload_argv": arguments,
    }
    if dashboard_prefix:
        options["http_prefix"] = dashboard_prefix
    if lifetime is not None:
        options |= {"lifetime": lifetime, "lifetime_stagger": lifetime_stagger, "lifetime_restart": lifetime_restart}
    ports = parse_ports(worker_port) if not listen_address else [None]
    if nanny:
        server: Any = Nanny
        if cls is not None:
            options["worker_class"] = cls
        if preload_nanny:
            options |= {"preload_nanny": list(preload_nanny), "preload_nanny_argv": arguments}
        if listen_address:
            options["listen_address"] = listen_address
        options["port"] = nanny_port
        options["worker_port"] = worker_port if worker_port is not None else 0
    else:
        if nanny_port:
            raise click.UsageError("--nanny-port needs a nanny")
        server = cls if cls is not None else defaults.load("Worker")
        if listen_address:
            options |= _split_listen(listen_address)
        elif ports != [None]:
            options["port"] = worker_port
    options = _taken_by(server, options)
    names: list[Any] = [None] * count
    if name is not None:
        whole: Any = int(name) if name.isdigit() else name
        names = [whole] if count == 1 else [f"{name}-{i}" for i in range(count)]

    show_logs()
    with _pid_file(pid_file):
        gc.set_threshold(10_000, 20, 20)
        with asyncio.Runner(loop_factory=new_asyncio_loop) as runner:
            runner.run(_serve(server, scheduler, scheduler_file, names, options, context.info_name == "dworker"))


_pid_file = pid_file


def worker_counts(n_workers: str | int | None, nthreads: int) -> tuple[int, int]:
    """(number of workers, threads of each) from ``--nworkers`` and ``--nthreads``.

    >>> worker_counts(None, 3)
    (1, 3)
    """
    if n_workers == "auto":
        if nthreads:
            raise click.UsageError("--nworkers auto chooses the threads too: leave out --nthreads")
        return nprocesses_nthreads()
    try:
        count = int(n_workers) if n_workers is not None else 1
    except ValueError:
        raise click.UsageError(f"--nworkers must be an int or 'auto', not {n_workers!r}") from None
    if count < 0:
        count = CPU_COUNT + 1 + count
    if count <= 0:
        raise click.UsageError("--nworkers asks for no worker at all")
    if nthreads < 0:
        raise click.UsageError(f"--nthreads must be at least 1, not {nthreads}")
    return count, nthreads or max(1, CPU_COUNT // count)


def parse_resources(text: str | None) -> dict[str, float] | None:
    """``"GPU=2 MEM=10e9"`` (blanks or commas between) as a table.

    Raises ``ValueError`` that shows the bad part.
    """
    if not text:
        return None
    table = {}
    for part in text.replace(",", " ").split():
        name, equals, amount = part.partition("=")
        try:
            if not name or not equals:
                raise ValueError
            table[name] = float(amount)
        except ValueError:
            raise ValueError(f"--resources takes NAME=NUMBER pairs, like 'GPU=2 MEM=10e9'; not {part!r}") from None
    return table


def _split_listen(address: str) -> dict[str, Any]:
    scheme, separator, rest = address.rpartition("://")
    host, colon, port = rest.rpartition(":")
    options: dict[str, Any] = {"host": host or rest}
    if colon and port.isdigit():
        options["port"] = int(port)
    if separator:
        options["protocol"] = scheme
    return options


def _taken_by(server: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Options that were not given are left out, so that a class that does not know them need not."""
    parameters = inspect.signature(server.__init__).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return options
    return {name: value for name, value in options.items() if name in parameters or value not in (None, [], ())}


async def _serve(
    server: Any,
    scheduler: str | None,
    scheduler_file: str | None,
    names: list[Any],
    options: dict[str, Any],
    seed_words: bool,
) -> None:
    servers: list[Any] = []

    async def life() -> None:
        address = scheduler
        if address is None:
            assert scheduler_file is not None
            address = await wait_for_scheduler_file(scheduler_file, options.get("death_timeout"))
        address = as_host_port(address)
        servers.extend(server(address, name=name, **options) for name in names)
        await asyncio.gather(*[_begin(one) for one in servers])
        # Each worker has logged "Start worker at:" and "Registered to:" by now. These are words of older programs.
        for _ in servers:
            click.echo(f"Registered with Scheduler at: {address}", err=True)
            if seed_words:
                click.echo(f"Registered with center at: {address}", err=True)
        await asyncio.gather(*[one.finished() for one in servers])

    problem = ""
    signals = None
    try:
        signals = await until_signal(life, "workers")
    except StartError as e:
        problem = str(e)
    except Exception as e:
        problem = f"the worker did not start: {explain(e)}"
    await _close(servers)
    if problem:
        fail(problem)
    logger.info("End worker")
    if signals is not None:
        signals.finish()


async def _begin(server: Any) -> None:
    await server


async def _close(servers: list[Any]) -> None:
    if not servers:
        return
    closing = [asyncio.ensure_future(one.close()) for one in servers]
    _, late = await asyncio.wait(closing, timeout=CLOSE_TIMEOUT_S)
    if late:
        logger.warning("%d workers have not closed in %.0f s and are left", len(late), CLOSE_TIMEOUT_S)


if __name__ == "__main__":
    main(prog_name="dask-worker")
