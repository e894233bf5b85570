"""Who of a cluster reaches whom, and what is in the way: the work of ``dask-doctor``. Shell.

A connection is tried in steps, each of which can fail for one reason only: the name is looked up, the socket connects,
the peer proves that it knows the cluster's secret. The same function runs here, on the scheduler and on every worker.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distributed.base import versions
from distributed.base.errors import HandshakeRefused
from distributed.client import Client
from distributed.comm import registry, tcp
from distributed.comm.addressing import ensure_ip, is_loopback, parse_host_port

__all__ = ["Finding", "examine", "try_address", "try_addresses"]

MOST_TARGETS = 50
"""So many addresses each worker tries at most: those that follow its own in the list."""


@dataclass(frozen=True)
class Finding:
    """One attempt, or one comparison: ``problem`` is empty when all is well, else names what fails."""

    source: str
    target: str
    problem: str = ""
    told: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.problem

    def __str__(self) -> str:
        where = f"{self.source} -> {self.target}" if self.target else self.source
        if self.ok:
            return f"ok    {where}  {self.told or f'{1000 * self.seconds:.1f} ms'}"
        return f"FAIL  {where}  {self.problem}: {self.told}"


async def try_address(address: str, timeout_s: float, role: str = "client") -> tuple[str, str, float]:
    """Connect to ``address`` as a stranger on the network would.

    Returns
    -------
    tuple
        What fails (``address``, ``interface``, ``port``, ``firewall``, ``process``, ``version``, ``secret``; empty:
        nothing), the reason in words, and how long it took in seconds.
    """
    begin = time.monotonic()
    if not address.startswith(("tcp://", "tls://")):
        return "", "within one machine", 0.0
    host, port = parse_host_port(address.partition("://")[2], 0)
    problem, told = await _try_socket(host, port, timeout_s)
    if not problem:
        problem, told = await _try_handshake(address, timeout_s, role)
    return problem, told, time.monotonic() - begin


async def _try_socket(host: str, port: int, timeout_s: float) -> tuple[str, str]:
    try:
        ip = await asyncio.get_running_loop().run_in_executor(None, ensure_ip, host)
    except OSError as e:
        return "address", e.strerror or str(e)
    hint = "; it is a loopback address, which only programs of its own machine reach (--host, --interface)"
    hint = hint if is_loopback(ip) else ""
    try:
        async with asyncio.timeout(timeout_s):
            sock = await tcp.connect_socket(ip, port)
    except ConnectionRefusedError:
        return "port", f"nobody listens at port {port} of {host}{hint}"
    except TimeoutError:
        return (
            "firewall",
            f"no answer from port {port} of {host} in {timeout_s:g} s: a firewall or a dead machine{hint}",
        )
    except OSError as e:
        return "interface", f"no way to {host}: {e.strerror or e}"
    sock.close()
    return "", ""


async def _try_handshake(address: str, timeout_s: float, role: str) -> tuple[str, str]:
    try:
        comm = await registry.connect(address, timeout_s, role=role, shortcuts=False)
    except HandshakeRefused as e:
        text = str(e)
        return "secret" if "secret" in text else "version", text
    except TimeoutError:
        return "process", f"it accepts connections and then says nothing for {timeout_s:g} s: stopped, or busy"
    except (OSError, ValueError) as e:
        return "process", str(e)
    comm.abort()
    return "", ""


async def try_addresses(addresses: Sequence[str], timeout_s: float, role: str) -> list[tuple[str, str, float]]:
    """All at once; see :func:`try_address`."""
    return await asyncio.gather(*[try_address(address, timeout_s, role) for address in addresses])


async def examine(address: str, timeout_s: float, security: Any = None) -> AsyncIterator[Finding]:
    """Try every address of a cluster from here, from its scheduler and from its workers; compare versions.

    Parameters
    ----------
    address
        The scheduler's.
    timeout_s
        For each attempt.
    """
    problem, told, seconds = await try_address(address, timeout_s)
    yield Finding("here", f"scheduler {address}", problem, told, seconds)
    if problem:
        return
    async with Client(address, asynchronous=True, timeout=timeout_s, set_as_default=False, security=security) as client:
        info = await client.scheduler.identity(n_workers=-1)
        workers: dict[str, Any] = info["workers"]
        names = {where: f"worker {one['name']} {where}" for where, one in workers.items()}
        names |= {
            one["nanny"]: f"nanny of {one['name']} {one['nanny']}" for one in workers.values() if one.get("nanny")
        }
        if not workers:
            yield Finding("scheduler", "workers", "process", "no worker has registered")
        for finding in await _from_here(names, timeout_s):
            yield finding
        for finding in await _from_scheduler(client, names, timeout_s):
            yield finding
        for findings in asyncio.as_completed(_from_workers(client, address, workers, names, timeout_s)):
            for finding in await findings:
                yield finding
        yield await _versions(client, timeout_s)


async def _from_here(names: Mapping[str, str], timeout_s: float) -> list[Finding]:
    return _findings("here", list(names), names, await try_addresses(list(names), timeout_s, "client"))


async def _from_scheduler(client: Any, names: Mapping[str, str], timeout_s: float) -> list[Finding]:
    asked = client.run_on_scheduler(try_addresses, list(names), timeout_s, "scheduler")
    return await _asked("scheduler", asked, list(names), names, timeout_s)


def _from_workers(
    client: Any, scheduler: str, workers: Mapping[str, Any], names: Mapping[str, str], timeout_s: float
) -> list[Awaitable[list[Finding]]]:
    everywhere = list(workers)
    questions: list[Awaitable[list[Finding]]] = []
    for i, one in enumerate(everywhere):
        others = (everywhere[i + 1 :] + everywhere[:i])[:MOST_TARGETS]
        targets = [scheduler, *others]
        shown = {**names, scheduler: f"scheduler {scheduler}"}
        asked = client.run(try_addresses, targets, timeout_s, "worker", workers=[one])
        questions.append(_asked(names[one], asked, targets, shown, timeout_s, one))
    return questions


async def _asked(
    source: str,
    question: Any,
    targets: Sequence[str],
    names: Mapping[str, str],
    timeout_s: float,
    key: str | None = None,
) -> list[Finding]:
    """The findings of another process; that it does not answer is one, too."""
    try:
        async with asyncio.timeout(3 * timeout_s + 1):
            answer = await question
    except TimeoutError:
        return [Finding(source, "", "process", "it is registered and does not answer: stopped, or busy")]
    except Exception as e:
        return [Finding(source, "", "process", f"it cannot be asked: {e}")]
    return _findings(source, targets, names, answer if key is None else answer[key])


def _findings(source: str, targets: Sequence[str], names: Mapping[str, str], answers: Sequence[Any]) -> list[Finding]:
    return [Finding(source, names[t], *answer) for t, answer in zip(targets, answers, strict=True)]


async def _versions(client: Any, timeout_s: float) -> Finding:
    try:
        async with asyncio.timeout(3 * timeout_s + 1):
            found = await client.get_versions()
    except Exception as e:
        return Finding("versions", "", "process", f"they cannot be asked for: {e or 'no answer'}")
    views = {"here": found["client"], "scheduler": found["scheduler"], **found["workers"]}
    text = versions.mismatch_text(versions.differences(views))
    if text:
        return Finding("versions", "", "version", text)
    return Finding("versions", "", told=f"the same in {len(views)} processes, host {socket.gethostname()} looking")
