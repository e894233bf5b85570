"""``dask-mpi``: a scheduler and workers as the processes of one MPI job."""

from __future__ import annotations

import json
from typing import Any

import click

from distributed._version import __version__
from distributed.base import log_setup
from distributed.cli.command import ANY_PATH, Command, InterfaceType, MemoryType, group, older
from distributed.cli.options import explain, fail
from distributed.deploy.mpi import Job, load_mpi

roles, network, workers = group("Roles"), group("Network"), group("Workers")


@click.command(name="mpi", cls=Command)
@click.argument("scheduler_address", required=False)
@roles("--scheduler-file", type=ANY_PATH, help="Write address and secret there; with --no-scheduler: read them there")
@roles("--scheduler/--no-scheduler", default=True, help="With or without a scheduler of its own  [default: scheduler]")
@roles("--scheduler-rank", type=click.IntRange(min=0), default=0, show_default=True, help="Rank of the scheduler")
@roles("--exclusive-workers/--inclusive-workers", default=True,
       help="Whether the scheduler's rank runs no worker, or one too  [default: exclusive]")  # fmt: skip
@network("--scheduler-port", type=click.IntRange(0, 65535), default=0, help="Port of the scheduler; default: any")
@network("--interface", type=InterfaceType(), help="Network interface to use, like eth0 or ib0")
@network("--protocol", type=str, help="Protocol, like tcp or tls; default: tcp")
@network("--dashboard/--no-dashboard", default=True, help="With or without web pages  [default: dashboard]")
@network("--dashboard-address", type=str, help="Where they are served; default: :8787, or any free port")
@workers("--nthreads", type=click.IntRange(min=1), help="Threads of each worker; default: cores / ranks on its host")
@workers("--memory-limit", type=MemoryType(), default="auto", show_default=True, help="Memory of each worker")
@workers("--local-directory", type=ANY_PATH, help="Directory for files of the workers")
@workers("--name", type=str, default="dask_mpi", show_default=True, help="Workers are called NAME-rank")
@workers("--worker-class", type=str, default="distributed.Nanny", show_default=True, help="As package.module.Class")
@workers("--worker-options", type=str, help="More keywords of that class, as JSON")
@older("--nanny/--no-nanny", note="--no-nanny is now --worker-class distributed.Worker", becomes="worker_class",
       convert=lambda nanny: "distributed.Nanny" if nanny else "distributed.Worker")  # fmt: skip
@click.version_option(__version__, prog_name="dask-mpi")
def main(**given: Any) -> None:
    """Run by mpirun: one rank becomes the scheduler, all others workers.

    Clients join by the scheduler file: Client(scheduler_file="..."). With SCHEDULER_ADDRESS (or --no-scheduler and a
    file), all ranks become workers of that scheduler. MPI only starts them: traffic is not MPI's. Needs mpi4py.

    Example: mpirun -n 4 dask-mpi --scheduler-file scheduler.json
    """
    more = _json_object(given["worker_options"])
    address, file = given["scheduler_address"], given["scheduler_file"]
    if not given["scheduler"] and not (address or file):
        raise click.UsageError("--no-scheduler needs SCHEDULER_ADDRESS or --scheduler-file")
    try:
        comm = load_mpi().COMM_WORLD
    except ImportError as e:
        fail(str(e))
    own = given["scheduler"] and not address
    rank, size = given["scheduler_rank"], comm.Get_size()
    if own and rank >= size:
        raise click.UsageError(f"--scheduler-rank {rank}: the job has ranks 0 to {size - 1}")
    if own and size == 1 and given["exclusive_workers"]:
        raise click.UsageError(
            "a job of one rank would be a scheduler without workers: mpirun -n 2, or --inclusive-workers"
        )
    log_setup.show()
    job = Job(
        comm, rank if own else None, _scheduler(given), _worker(given) | more, given["worker_class"], given["name"]
    )
    try:
        if own:
            job.serve(also_worker=not given["exclusive_workers"])
        else:
            job.work_for(address, file)
    except Exception as e:
        fail(f"rank {job.rank} did not start: {explain(e)}")


def _scheduler(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "scheduler_file": given["scheduler_file"],
        "port": given["scheduler_port"],
        "interface": given["interface"],
        "protocol": given["protocol"],
        "dashboard": given["dashboard"],
        "dashboard_address": given["dashboard_address"],
    }


def _worker(given: dict[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in ("interface", "protocol", "nthreads", "memory_limit", "local_directory")}


def _json_object(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    try:
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    except ValueError:
        pass
    raise click.UsageError(f"--worker-options must be a JSON object of keywords, not {text!r}")


if __name__ == "__main__":
    main(prog_name="dask-mpi")
