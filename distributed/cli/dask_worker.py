"""``dask-worker``: workers as a program. Also ``dask worker``, ``dworker`` and ``python -m`` this module."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
from dataclasses import dataclass
from typing import Any

import click

from distributed._version import __version__
from distributed.base import defaults, log_setup, settings
from distributed.base.ending import until_signal
from distributed.cli.command import (
    ANY_PATH,
    Command,
    DurationType,
    InterfaceType,
    MemoryType,
    auth_options,
    group,
    older,
    open_up,
    security_of,
    tls_options,
)
from distributed.cli.options import (
    PortsType,
    StartError,
    exit_code,
    explain,
    fail,
    parse_ports,
    pid_file,
    preload_arguments,
    wait_for_scheduler_file,
)
from distributed.comm.addressing import as_host_port, ensure_ip, is_own_ip, parse_host_port
from distributed.deploy.utils import CPU_COUNT, nprocesses_nthreads
from distributed.nanny import Nanny
from distributed.rpc.loop_runner import new_asyncio_loop

logger = logging.getLogger("distributed.worker")

CLOSE_TIMEOUT_S = 10.0

size, network, web, life = group("Size"), group("Network"), group("Web pages"), group("Life and files")


@click.command(name="worker", cls=Command)
@click.argument("scheduler", type=str, required=False)
@size(
    "--nworkers",
    "n_workers",
    type=str,
    help="Number of workers; auto: by the cores, also --nthreads; negative: cores + 1 + this; default: 1",
)
@size("--nthreads", type=click.IntRange(min=0), default=0, help="Threads of each worker; default: cores / nworkers")
@size(
    "--memory-limit",
    type=MemoryType(),
    default="auto",
    show_default=True,
    help="Memory of each worker: bytes, a fraction of the machine's, text like 5GB, auto, or 0 for no limit",
)
@size("--resources", type=str, help='Resources of each worker, like "GPU=2 MEM=10e9"')
@size("--nanny/--no-nanny", default=True, help="Run each worker in a process that is watched  [default: nanny]")
@network(
    "--worker-port",
    type=PortsType(),
    help="Port of the worker; first:last for several workers; default: any that is free",
)
@network("--nanny-port", type=PortsType(), help="Port of the nanny; first:last for several; default: any that is free")
@network("--host", type=str, help="Name or IP address to listen on, and to be reached by")
@network("--interface", type=InterfaceType(), help="Network interface to use, like eth0 or ib0")
@network("--listen-address", type=str, help="Address to listen on, like tcp://0.0.0.0:9000")
@network("--contact-address", type=str, help="Address by which others reach this worker, like tcp://10.0.0.7:9000")
@network("--protocol", type=str, help="Protocol, like tcp or tls; default: the scheduler's")
@tls_options("worker")
@auth_options
@network("--scheduler-sni", type=str, hidden=True)
@web("--dashboard-address", type=str, default=":0", show_default=True, help="Where the web server listens; 0: any port")
@web("--dashboard/--no-dashboard", default=True, help="With or without a web server  [default: dashboard]")
@life("--scheduler-file", type=ANY_PATH, help="File that a scheduler writes its address and secret to; waited for")
@life("--name", type=str, help="Name of this worker; with several, name-0, name-1, ...; default: its address")
@life(
    "--death-timeout", type=DurationType(), help="Give up when there is no scheduler for this long, like 60 or '1 min'"
)
@life("--lifetime", type=DurationType(), help="Hand over all data and end after this long, like '1 hour'")
@life("--lifetime-stagger", type=DurationType(), help="Random time added to or taken off the lifetime; default: 0")
@life("--lifetime-restart/--no-lifetime-restart", default=None, help="When the lifetime has passed, start anew")
@life(
    "--local-directory", type=ANY_PATH, help="Directory for files of the workers; default: the system's temporary one"
)
@life("--pid-file", type=ANY_PATH, help="Write the process id there; removed at the end")
@life("--worker-class", type=str, help="Class of the workers, as package.module.Class")
@life("--preload", type=ANY_PATH, multiple=True, help="Module or file to load first, with dask_setup(worker)")
@life("--preload-nanny", type=ANY_PATH, multiple=True, help="The same for the nanny")
@older("--nprocs", type=str, note="--nprocs is now --nworkers", becomes="n_workers")
@older("--nthreads-per-worker", "--ncores", type=int, note="this option is now --nthreads", becomes="nthreads")
@older("--port", "old_port", type=PortsType(), note="--port is now --worker-port", becomes="worker_port")
@older("-worker-port", "misprinted_port", type=PortsType(), note="write --worker-port", becomes="worker_port")
@older("--reconnect/--no-reconnect", note="--reconnect has no effect: a worker whose scheduler is gone ends")
@older("--bokeh/--no-bokeh", note="--bokeh is now --dashboard", becomes="dashboard")
@older(
    "--bokeh-port",
    type=int,
    note="--bokeh-port is now --dashboard-address",
    becomes="dashboard_address",
    convert=lambda port: f":{port}",
)
@older(
    "--dashboard-prefix",
    "--bokeh-prefix",
    note="prefixes of workers' pages are going; give it to the scheduler",
    becomes="http_prefix",
)
@older("--http-port", type=int, note="--http-port has no effect: JSON is under /json of the web pages")
@click.argument("preload_argv", nargs=-1, type=click.UNPROCESSED)
@click.version_option(__version__, prog_name="dask-worker")
@click.pass_context
def main(context: click.Context, /, **given: Any) -> None:
    """Start workers that connect to SCHEDULER, an address like tcp://127.0.0.1:8786.

    Without SCHEDULER the address comes from --scheduler-file or the configuration (scheduler-address, also the
    environment variable DASK_SCHEDULER_ADDRESS). The worker and its nanny listen on free ports unless told otherwise.
    Further arguments go to the --preload module. Exit codes: 0 in order, 1 it could not start or lost its scheduler,
    2 a wrong command line, 128 + n ended by signal n.
    """
    if (given["scheduler"] or "").startswith("-"):  # an option of the preload module
        given |= {"preload_argv": (given["scheduler"], *given["preload_argv"]), "scheduler": None}
    note = given.pop("pid_file")
    program = read_options(context, given)
    log_setup.show()
    with pid_file(note):
        gc.set_threshold(10_000, 20, 20)
        with asyncio.Runner(loop_factory=new_asyncio_loop) as runner:
            runner.run(_serve(program, context.info_name == "dworker"))


@dataclass
class Program:
    """What the command line asks for: servers of one class, their names, and where they find the scheduler."""

    server: Any
    names: list[Any]
    scheduler: str | None
    scheduler_file: str | None
    options: dict[str, Any]


def read_options(context: click.Context, given: dict[str, Any]) -> Program:
    """A program from the options, which are used up; a usage error when they do not go together."""
    open_up(given)
    options = {**given, "preload_argv": preload_arguments(context, given, "worker")}
    options["security"] = security_of(options, "worker")
    options.pop("scheduler_sni")
    count, options["nthreads"] = worker_counts(options.pop("n_workers"), given["nthreads"])
    _check_together(given, count)
    scheduler, scheduler_file = _scheduler(options)
    if options["death_timeout"] is None:
        options["death_timeout"] = settings.get_seconds("distributed.worker.death-timeout", None)
    try:
        options["resources"] = parse_resources(options["resources"])
        worker_class = defaults.load(options["worker_class"]) if options["worker_class"] else None
    except (ValueError, ImportError, AttributeError) as e:
        fail(str(e) if "--resources" in str(e) else f"--worker-class {options['worker_class']}: {e}", 2)
    options["preload"] = list(options["preload"]) or None
    options["listen_address"] = _listen_address(options)
    name = options.pop("name")
    if options.pop("nanny"):
        server: Any = Nanny
        _for_nanny(options, worker_class)
    else:
        server = worker_class or defaults.load("Worker")
        _for_bare_worker(options)
    options = {key: value for key, value in options.items() if value is not None}
    return Program(server, _names(name, count), scheduler, scheduler_file, _taken_by(server, options))


def _check_together(given: dict[str, Any], count: int) -> None:
    listen = given["listen_address"]
    if count > 1 and not given["nanny"]:
        raise click.UsageError("--no-nanny runs one worker in this process: it cannot go with --nworkers > 1")
    if count > 1 and listen:
        raise click.UsageError("--listen-address names one port: it cannot go with --nworkers > 1")
    if listen and (given["host"] or given["interface"] or given["worker_port"]):
        raise click.UsageError("--listen-address says it all: leave out --host, --interface and --worker-port")
    if given["nanny_port"] and not given["nanny"]:
        raise click.UsageError("--nanny-port needs a nanny")
    if given["preload_nanny"] and not given["nanny"]:
        raise click.UsageError("--preload-nanny needs a nanny")
    for name in ("worker_port", "nanny_port"):
        ports = parse_ports(given[name])
        if 1 < len(ports) < count:
            flag = name.replace("_", "-")
            raise click.UsageError(f"--{flag} {given[name]} has {len(ports)} ports for {count} workers")


def _scheduler(options: dict[str, Any]) -> tuple[str | None, str | None]:
    address, path = options.pop("scheduler"), options.pop("scheduler_file")
    if address is None and path is None:
        address = settings.get("scheduler-address", None)
        if not address:
            raise click.UsageError("no scheduler: name its address, or --scheduler-file, or set DASK_SCHEDULER_ADDRESS")
    return address, None if address is not None else path


def _listen_address(given: dict[str, Any]) -> str | None:
    """Where to listen: as told, else at the port of the contact address, which a router in between passes on."""
    listen: str | None = given["listen_address"]
    contact: str | None = given["contact_address"]
    if listen or not contact or given["host"] or given["interface"] or given["worker_port"]:
        return listen
    scheme, _, location = contact.rpartition("://")
    host, port = parse_host_port(location, 0)
    if not port:
        return None
    try:
        own = is_own_ip(ensure_ip(host))
    except OSError:
        own = False
    return contact if own else f"{scheme or 'tcp'}://0.0.0.0:{port}"


def _for_nanny(options: dict[str, Any], worker_class: Any) -> None:
    options["worker_class"] = worker_class
    options["preload_nanny"] = list(options["preload_nanny"]) or None
    options["port"] = options.pop("nanny_port")
    if options["worker_port"] is None:
        options["worker_port"] = 0


def _for_bare_worker(options: dict[str, Any]) -> None:
    for name in ("nanny_port", "preload_nanny", "worker_class"):
        options.pop(name)
    port, listen = options.pop("worker_port"), options.pop("listen_address")
    if listen:
        options |= _split_listen(listen)
    elif port is not None:
        options["port"] = port


def _names(name: str | None, count: int) -> list[Any]:
    if name is None:
        return [None] * count
    if count > 1:
        return [f"{name}-{i}" for i in range(count)]
    return [int(name) if name.isdigit() else name]


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


async def _serve(program: Program, old_words: bool) -> None:
    servers: list[Any] = []

    async def life() -> None:
        address = program.scheduler
        if address is None:
            assert program.scheduler_file is not None
            address = await wait_for_scheduler_file(program.scheduler_file, program.options.get("death_timeout"))
            program.options |= _taken_by(program.server, {"scheduler_file": program.scheduler_file})
        address = as_host_port(address)
        servers.extend(program.server(address, name=name, **program.options) for name in program.names)
        await asyncio.gather(*[_begin(one) for one in servers])
        # Each worker has logged "Start worker at:" and "Registered to:" by now. These are words of older programs.
        for _ in servers:
            click.echo(f"Registered with Scheduler at: {address}", err=True)
            if old_words:
                click.echo(f"Registered with center at: {address}", err=True)
        await asyncio.gather(*[one.finished() for one in servers])

    problem = ""
    code = 1
    signals = None
    try:
        signals = await until_signal(life, "workers")
    except StartError as e:
        problem = str(e)
    except Exception as e:
        problem, code = f"the worker did not start: {explain(e)}", exit_code(e)
    await _close(servers)
    if problem:
        fail(problem, code)
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
