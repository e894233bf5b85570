"""``dask-ssh``: a scheduler and workers on many machines, over SSH. Also ``dask ssh`` and ``dcluster``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from distributed._version import __version__
from distributed.base.ending import until_signal
from distributed.cli.command import ANY_PATH, FILE, Command, MemoryType, group, older
from distributed.cli.options import PortsType, explain, fail
from distributed.deploy.ssh import SSHCluster
from distributed.rpc.loop_runner import new_asyncio_loop

machines, ssh, workers = group("Machines"), group("SSH"), group("Workers")

WORKER_MODULE = "distributed.cli.dask_worker"


@click.command(name="ssh", cls=Command)
@click.argument("hostnames", nargs=-1, type=str)
@machines("--hostfile", type=FILE, help="File with one host name or address a line; # begins a comment")
@machines("--scheduler", type=str, help="Host of the scheduler; default: the first one")
@machines("--scheduler-port", type=click.IntRange(0, 65535), default=8786, show_default=True, help="Its port")
@machines("--dashboard-address", type=str, default=":8787", show_default=True, help="Where its web pages listen")
@ssh("--ssh-username", type=str, help="User name there; default: as ~/.ssh/config has it, else yours")
@ssh("--ssh-port", type=click.IntRange(1, 65535), help="Port of the SSH servers; default: 22")
@ssh("--ssh-private-key", type=FILE, help="Private key to log in with; default: those in ~/.ssh and of the agent")
@ssh("--remote-python", type=str, help="Python there; default: the path of this one")
@workers("--nworkers", "n_workers", type=str, help="Workers on each host; default: 1")
@workers("--nthreads", type=click.IntRange(min=0), default=0, help="Threads of each worker; default: cores / nworkers")
@workers("--memory-limit", type=MemoryType(), default="auto", show_default=True, help="Memory of each worker")
@workers("--worker-port", type=PortsType(), help="Port of the workers, or first:last; default: any that is free")
@workers("--nanny-port", type=PortsType(), help="Port of the nannies, or first:last; default: any that is free")
@workers(
    "--nohost", is_flag=True, help="Let workers find out their address, instead of using the host's name given here"
)
@workers("--local-directory", type=ANY_PATH, help="Directory there for files of the workers")
@workers("--log-directory", type=ANY_PATH, help="Directory there for a copy of what the programs print")
@workers(
    "--remote-dask-worker", type=str, default=WORKER_MODULE, show_default=True, help="Module of the worker's program"
)
@older("--nprocs", type=str, note="--nprocs is now --nworkers", becomes="n_workers")
@click.version_option(__version__, prog_name="dask-ssh")
@click.pass_context
def main(context: click.Context, /, **given: Any) -> None:
    """Start a scheduler on the first of HOSTNAMES and workers on all of them.

    What the programs print comes here, each line marked with its host. Ctrl-C ends all of them. Needs the package
    asyncssh here, and this package on every host. The hosts' keys must be known (~/.ssh/known_hosts).
    """
    hosts = [*given["hostnames"], *(_read_hostfile(given["hostfile"]) if given["hostfile"] else [])]
    if not hosts:
        click.echo(context.get_help())
        context.exit(0)
    try:
        with asyncio.Runner(loop_factory=new_asyncio_loop) as runner:
            runner.run(_serve(hosts, given))
    except ImportError as e:
        fail(str(e))


def _read_hostfile(path: str) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in Path(path).read_text().splitlines())
    hosts = [line for line in lines if line]
    if not hosts:
        raise click.UsageError(f"--hostfile {path} names no host")
    return hosts


def worker_arguments(given: dict[str, Any], host: str) -> list[str]:
    """The command line of the worker program on ``host``."""
    options = {
        "--nworkers": given["n_workers"],
        "--nthreads": given["nthreads"] or None,
        "--memory-limit": given["memory_limit"],
        "--worker-port": given["worker_port"],
        "--nanny-port": given["nanny_port"],
        "--local-directory": given["local_directory"],
        "--host": None if given["nohost"] else host,
    }
    return [word for name, value in options.items() if value is not None for word in (name, str(value))]


def connect_options(given: dict[str, Any]) -> dict[str, Any]:
    """Keywords of ``asyncssh.connect``."""
    key = given["ssh_private_key"]
    options = {
        "username": given["ssh_username"],
        "port": given["ssh_port"],
        "client_keys": None if key is None else [key],
    }
    return {name: value for name, value in options.items() if value is not None}


async def _serve(hosts: list[str], given: dict[str, Any]) -> None:
    first = given["scheduler"] or hosts[0]
    width = max(len(host) for host in [first, *hosts])

    async def life() -> None:
        cluster = SSHCluster(
            [first, *hosts],
            connect_options=connect_options(given),
            scheduler_options={"port": given["scheduler_port"], "dashboard_address": given["dashboard_address"]},
            remote_python=given["remote_python"],
            asynchronous=True,
            on_line=lambda host, line: click.echo(f"[{host:<{width}}] {line}"),
            log_directory=given["log_directory"],
            worker_module=given["remote_dask_worker"],
            worker_arguments=[worker_arguments(given, host) for host in hosts],
        )
        async with cluster:
            click.echo(f"Start scheduler at: {cluster.scheduler_address}", err=True)
            await cluster.scheduler.finished()
            raise RuntimeError(f"the scheduler on {first} has ended")

    try:
        signals = await until_signal(life, "all hosts")
    except ImportError:
        raise
    except Exception as e:
        fail(str(e) if isinstance(e, RuntimeError) else explain(e))
    signals.finish()


if __name__ == "__main__":
    main(prog_name="dask-ssh")
