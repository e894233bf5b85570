"""A cluster that stays: a scheduler and workers started on other machines over SSH, until the machines end. Shell.

(``SSHCluster`` is for clusters that end with the program that made them.) The scheduler writes a scheduler file. It
goes to the other machines through the SSH connections, in files of mode 0600, and so does the secret in it.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed.deploy.ssh import load_asyncssh

__all__ = ["Machine", "start_cluster"]

_START_S = 120.0


@dataclass(frozen=True)
class Machine:
    """One machine.

    Parameters
    ----------
    reach
        Address by which we reach it.
    inside
        Address by which the others reach it.
    connect_options
        Keywords of ``asyncssh.connect``.
    """

    reach: str
    inside: str
    connect_options: Mapping[str, Any] = field(default_factory=dict)


async def start_cluster(
    machines: Sequence[Machine],
    name: str,
    python: str = "python3",
    provision: str | None = None,
    n_processes: int = 1,
    port: int = 8786,
    scheduler_arguments: Sequence[str] = (),
    worker_arguments: Sequence[str] = (),
    directory: str = ".",
) -> tuple[dict[str, Any], dict[str, str]]:
    """Start a scheduler on the first machine and workers on the others (on it, too, if it is the only one).

    Parameters
    ----------
    python
        Python there.
    provision
        Shell commands to run on each machine first.
    n_processes
        Workers on each machine.
    directory
        Where scheduler file and logs are there; default: the home directory.

    Returns
    -------
    dict, dict
        What the scheduler file says, and the public key of each machine's SSH server, by ``reach``.

    Raises
    ------
    RuntimeError
        Names the machine and what was wrong.
    """
    connections = await asyncio.gather(*[_connect(one) for one in machines], return_exceptions=True)
    try:
        for outcome in connections:
            if isinstance(outcome, BaseException):
                raise outcome
        pairs: list[tuple[Machine, Any]] = list(zip(machines, connections, strict=True))
        if provision:
            await asyncio.gather(*[_run(one, ssh, provision) for one, ssh in pairs])
        file = f"{directory}/dask-{name}.json"
        (first, to_first), *others = pairs
        words = ["distributed.cli.dask_scheduler", "--host", first.inside, "--port", str(port)]
        words += ["--scheduler-file", file, *scheduler_arguments]
        await _run(first, to_first, f"rm -f {shlex.quote(file)}")
        await _start(first, to_first, "scheduler", file, [python, "-m", *words])
        document = await _written(first, to_first, file)
        for one, ssh in others:
            await _run(one, ssh, f"umask 077; cat > {shlex.quote(file)}", json.dumps(document))
        for one, ssh in others or pairs:
            words = ["distributed.cli.dask_worker", "--scheduler-file", file, "--host", one.inside]
            words += ["--nworkers", str(n_processes), *worker_arguments]
            await _start(one, ssh, "worker", file, [python, "-m", *words])
        keys = {one.reach: ssh.get_server_host_key().export_public_key().decode().strip() for one, ssh in pairs}
        return document, keys
    finally:
        for outcome in connections:
            if not isinstance(outcome, BaseException):
                outcome.close()


async def _connect(machine: Machine) -> Any:
    """A machine that has just been started refuses for a while."""
    asyncssh = load_asyncssh()
    deadline = asyncio.get_running_loop().time() + _START_S
    while True:
        try:
            return await asyncssh.connect(machine.reach, **machine.connect_options)
        except asyncssh.PermissionDenied as e:
            raise RuntimeError(f"{machine.reach}: cannot log in: {e}") from None
        except (asyncssh.Error, OSError) as e:
            if asyncio.get_running_loop().time() > deadline:
                raise RuntimeError(f"{machine.reach}: cannot connect over SSH: {e}") from None
        await asyncio.sleep(1)


async def _run(machine: Machine, ssh: Any, command: str, standard_input: str = "") -> str:
    done = await ssh.run(command, input=standard_input, encoding="utf-8")
    if done.exit_status:
        said = [line for line in str(done.stderr).splitlines() if line.strip()][-3:]
        raise RuntimeError(f"{machine.reach}: exit code {done.exit_status}: {'; '.join(said) or command}")
    return str(done.stdout)


async def _start(machine: Machine, ssh: Any, what: str, file: str, words: Sequence[str]) -> None:
    log = shlex.quote(_log_of(file, what))
    await _run(machine, ssh, f"setsid nohup {shlex.join(words)} > {log} 2>&1 < /dev/null &")


def _log_of(file: str, what: str) -> str:
    return f"{file.removesuffix('.json')}-{what}.log"


async def _written(machine: Machine, ssh: Any, file: str) -> dict[str, Any]:
    """The scheduler file, once it is there; what the scheduler has said instead, if it is not."""
    deadline = asyncio.get_running_loop().time() + _START_S
    while asyncio.get_running_loop().time() < deadline:
        text = await _run(machine, ssh, f"cat {shlex.quote(file)} 2>/dev/null || true")
        if text.strip():
            document: dict[str, Any] = json.loads(text)
            return document
        log = await _run(machine, ssh, f"cat {shlex.quote(_log_of(file, 'scheduler'))} 2>/dev/null || true")
        wrong = [line for line in log.splitlines() if line.startswith("Error") or "No module named" in line]
        if wrong:
            raise RuntimeError(f"{machine.reach}: the scheduler did not start: {wrong[-1]}")
        await asyncio.sleep(0.2)
    raise RuntimeError(f"{machine.reach}: the scheduler has not started in {_START_S:.0f} s")
