"""``dask-ec2`` (``dec2``): a cluster on machines of Amazon EC2: ``up``, ``ssh``, ``destroy``."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from pathlib import Path
from typing import Any

import click

from distributed._version import __version__
from distributed.cli.command import FILE, Command, group
from distributed.cli.options import fail
from distributed.comm import secrets
from distributed.deploy.ec2 import EC2, Instance, Machines
from distributed.deploy.remote_start import Machine, start_cluster

amazon, machines, software = group("Amazon"), group("Machines"), group("Software")
_PROVISION = (
    "command -v cloud-init >/dev/null && cloud-init status --wait >/dev/null; "
    "sudo apt-get update -q && sudo DEBIAN_FRONTEND=noninteractive apt-get install -q -y python3-venv && "
    "python3 -m venv ~/dask-env && ~/dask-env/bin/pip install -q {packages}"
)
_PYTHON = "dask-env/bin/python"


def _file(command: Any) -> Any:
    """The option that all commands share."""
    text = "Where to note what belongs to the cluster"
    return click.option(
        "--file", type=click.Path(dir_okay=False), default="cluster.yaml", show_default=True, help=text
    )(command)


@click.group(name="dask-ec2", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="dask-ec2")
def main() -> None:
    """A cluster on machines of Amazon EC2. Credentials are those of boto3: ~/.aws, AWS_... variables, a role."""


@main.command(cls=Command)
@amazon("--keyname", required=True, help="Name of the key pair at Amazon")
@amazon("--keypair", required=True, type=FILE, help="File of its private key")
@amazon("--region-name", help="Such as us-east-1; default: as boto3 is configured")
@amazon("--security-group", default="dask", show_default=True, help="Made when there is none of that name")
@amazon("--allow-from", default="0.0.0.0/0", show_default=True, help="From where SSH is let in (nothing else is)")
@machines("--name", default="dask", show_default=True, help="Of the cluster")
@machines("--ami", help="Image; default: the newest Ubuntu 24.04")
@machines("--username", default="ubuntu", show_default=True, help="User to log in as")
@machines("--type", "instance_type", default="m5.xlarge", show_default=True, help="Of the machines")
@machines(
    "--count", type=click.IntRange(1), default=4, show_default=True, help="How many; the first is the scheduler's"
)
@machines("--volume-type", default="gp3", show_default=True, help="Of the disks")
@machines("--volume-size", type=click.IntRange(1), default=100, show_default=True, help="Of each disk, in GiB")
@software("--provision/--no-provision", default=True, show_default=True, help="Install Python and --packages")
@software("--packages", default="dask[complete]", show_default=True, help="What pip installs")
@software("--python", "remote_python", help=f"Python there; default: {_PYTHON} if provisioned, else python3")
@software("--dask/--no-dask", default=True, show_default=True, help="Start a scheduler and workers")
@software("--nprocs", type=click.IntRange(1), default=1, show_default=True, help="Workers on each machine")
@_file
def up(file: str, **options: Any) -> None:
    """Start machines, install what is needed, start a scheduler on the first and workers on the others."""
    if Path(file).exists():
        fail(f"{file} is there already: destroy that cluster first, or give another --file", 2)
    wanted = Machines(
        name=options["name"], keyname=options["keyname"], count=options["count"], type=options["instance_type"],
        ami=options["ami"], volume_type=options["volume_type"], volume_size_gib=options["volume_size"],
        security_group=options["security_group"], allow_from=options["allow_from"],
    )  # fmt: skip
    found = _or_fail(lambda: EC2(options["region_name"]).launch(wanted))
    note = {
        "name": wanted.name,
        "region": options["region_name"],
        "username": options["username"],
        "keypair": str(Path(options["keypair"]).absolute()),
        "instances": [{"id": one.id, "private": one.private, "public": one.public or one.private} for one in found],
    }
    secrets.write_private_text(file, json.dumps(note, indent=2))
    click.echo(f"{len(found)} machines of the cluster {wanted.name} run; noted in {file}")
    if options["dask"] or options["provision"]:
        _or_fail(lambda: _start_dask(file, note, found, options))


def _start_dask(file: str, note: dict[str, Any], found: list[Instance], options: dict[str, Any]) -> None:
    login = {"username": note["username"], "client_keys": [note["keypair"]], "known_hosts": None, "config": None}
    reached = [Machine(one.public or one.private, one.private, login) for one in found]
    document, keys = asyncio.run(
        start_cluster(
            reached,
            note["name"],
            options["remote_python"] or (_PYTHON if options["provision"] else "python3"),
            _PROVISION.format(packages=shlex.quote(options["packages"])) if options["provision"] else None,
            options["nprocs"],
        )
    )
    Path(_known_hosts(file)).write_text("".join(f"{host} {key}\n" for host, key in keys.items()))
    scheme, _, address = str(document["address"]).rpartition("://")
    port = address.rpartition(":")[2]
    local = {**document, "address": f"{scheme}://127.0.0.1:{port}"}
    secrets.write_private_text(_scheduler_file(file), json.dumps(local))
    click.echo(
        f"The scheduler is {document['address']}. From here, through SSH:\n"
        f"  dask-ec2 ssh --file {shlex.quote(file)} 0 -N -L {port}:{address}\n"
        f"  Client(scheduler_file={_scheduler_file(file)!r})"
    )


@main.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("node", type=click.IntRange(0), default=0)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@_file
def ssh(node: int, arguments: tuple[str, ...], file: str) -> None:
    """Log in to machine NODE (default: 0, the scheduler's); ARGUMENTS after it are ssh's, such as a command."""
    words = ssh_command(_noted(file), file, node, arguments)
    try:
        os.execvp(words[0], words)
    except OSError as e:
        fail(f"cannot run ssh: {e.strerror}")


def ssh_command(note: dict[str, Any], file: str, node: int, arguments: tuple[str, ...]) -> list[str]:
    """``ssh`` to a machine whose key was noted when the cluster was made; options of ssh come before the host."""
    hosts = note["instances"]
    if node >= len(hosts):
        fail(f"there is no machine {node}: the cluster has machines 0 to {len(hosts) - 1}", 2)
    checks = ["-o", f"UserKnownHostsFile={_known_hosts(file)}", "-o", "StrictHostKeyChecking=accept-new"]
    first = next(
        (i for i, word in enumerate(arguments) if not word.startswith("-") and not _is_value(arguments, i)), None
    )
    cut = len(arguments) if first is None else first
    target = f"{note['username']}@{hosts[node]['public']}"
    return ["ssh", "-i", note["keypair"], *checks, *arguments[:cut], target, *arguments[cut:]]


def _is_value(arguments: tuple[str, ...], place: int) -> bool:
    """Whether the word is the value of an option of ssh before it."""
    return place > 0 and len(arguments[place - 1]) == 2 and arguments[place - 1][1:] in "LRDolpFJiEcmbBeIkmOQSWw"


@main.command(cls=Command)
@click.option("--name", help="Of the cluster, when there is no file")
@click.option("--region-name", help="Its region")
@_file
def destroy(file: str, name: str | None, region_name: str | None) -> None:
    """End the machines of the cluster and remove what was made for it."""
    if name is None:
        note = _noted(file)
        name, region_name = note["name"], region_name or note["region"]
    ended = _or_fail(lambda: EC2(region_name).destroy(str(name)))
    for path in (file, _scheduler_file(file), _known_hosts(file)):
        Path(path).unlink(missing_ok=True)
    click.echo(f"{len(ended)} machines of the cluster {name} have ended")


def _or_fail(work: Any) -> Any:
    try:
        return work()
    except (RuntimeError, ImportError) as e:
        fail(str(e))


def _noted(file: str) -> dict[str, Any]:
    try:
        note: dict[str, Any] = json.loads(Path(file).read_text())
        return note
    except OSError as e:
        fail(f"cannot read {file}: {e.strerror}; dask-ec2 up writes it", 2)
    except ValueError:
        fail(f"{file} is not what dask-ec2 up has written", 2)


def _scheduler_file(file: str) -> str:
    return f"{os.path.splitext(file)[0]}.scheduler.json"


def _known_hosts(file: str) -> str:
    return f"{os.path.splitext(file)[0]}.known_hosts"


if __name__ == "__main__":
    main(prog_name="dask-ec2")
