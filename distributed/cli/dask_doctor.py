"""``dask-doctor``: tries every connection of a cluster in every direction, and says what is wrong with it."""

from __future__ import annotations

import asyncio
import logging

import click

from distributed._version import __version__
from distributed.base import settings
from distributed.cli.command import ANY_PATH, Command, DurationType
from distributed.cli.options import explain, fail
from distributed.comm.addressing import as_host_port
from distributed.comm.secrets import read_scheduler_file
from distributed.diagnostics.reachability import Finding, examine
from distributed.rpc.loop_runner import new_asyncio_loop


@click.command(name="doctor", cls=Command)
@click.argument("scheduler", required=False)
@click.option("--scheduler-file", type=ANY_PATH, help="File with the scheduler's address and secret")
@click.option("--timeout", type=DurationType(), default=5, show_default=True, help="For each attempt, in seconds")
@click.option("--quiet", "-q", is_flag=True, help="Show only what fails")
@click.version_option(__version__, prog_name="dask-doctor")
def main(scheduler: str | None, scheduler_file: str | None, timeout: float, quiet: bool) -> None:
    """Try every connection of the cluster at SCHEDULER: from here to all, from the scheduler to all, from each worker
    to the scheduler and the other workers.

    A failure names the direction and what fails: address (unknown host), interface (no way there), port (nobody
    listens), firewall (no answer), process (connects, does not answer), version or secret. Exit codes: 0 all is well, 1
    something fails.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what fails is told below
    address = _address(scheduler, scheduler_file)
    with asyncio.Runner(loop_factory=new_asyncio_loop) as runner:
        try:
            findings = runner.run(_report(address, timeout, quiet))
        except Exception as e:
            fail(f"the examination broke off: {explain(e)}")
    failed = [finding for finding in findings if not finding.ok]
    click.echo(f"{len(failed)} of {len(findings)} checks fail" if failed else f"All {len(findings)} checks are well")
    raise SystemExit(1 if failed else 0)


def _address(scheduler: str | None, path: str | None) -> str:
    if path is not None:
        try:
            document, _ = read_scheduler_file(path)
        except (OSError, ValueError) as e:
            fail(f"--scheduler-file {path}: {explain(e)}")
        return str(document["address"])
    found = scheduler or settings.get("scheduler-address", None)
    if not found:
        raise click.UsageError("no scheduler: name its address, or --scheduler-file, or set DASK_SCHEDULER_ADDRESS")
    return as_host_port(found)


async def _report(address: str, timeout_s: float, quiet: bool) -> list[Finding]:
    findings = []
    async for finding in examine(address, timeout_s):
        findings.append(finding)
        if not (quiet and finding.ok):
            click.echo(str(finding))
    return findings


if __name__ == "__main__":
    main(prog_name="dask-doctor")
