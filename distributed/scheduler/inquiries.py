"""What became of a worker whose connection broke: a broken link, which heals, or a process that has ended? Shell.

A nanny that is connected says so by itself. Of others a process of this machine is looked up by its pid; and a worker
always listens, so that a machine which answers that nobody does has no such worker any more; except where the
connection was *reset*: that, and then this answer, a firewall that rejects gives as well.
Whatever stays unknown is left to the grace.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import psutil

from distributed.comm.knock import Door, knock
from distributed.comm.offers import is_elsewhere
from distributed.scheduler.shell import Shell
from distributed.scheduler.state_machine.events import WorkerLost

PAUSES_S = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5)
"""A process that is killed lets go of its sockets some moments before it is gone."""
THEN_EVERY_S = 1.0
KNOCK_S = 2.0


class Inquiries:
    """The inquiries of one scheduler."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def begin(self, ws: Any, peer: str, was_cut: bool) -> None:
        """Find out about this worker, whose connection came from ``peer``, for as long as it is away. ``was_cut``: the
        network has ended the connection."""
        self._shell.spawn(self._follow(ws, peer, was_cut))

    async def _follow(self, ws: Any, peer: str, was_cut: bool) -> None:
        shell = self._shell
        since = self._absence(ws)
        for pause in _pauses():
            await asyncio.sleep(pause)
            absence = self._absence(ws)
            if shell.closed or absence is None or absence is not since:
                return
            if ws.nanny is not None and shell.streams.nanny(ws.nanny) is not None:
                continue
            found = await what_became_of(ws.address, ws.pid, peer, was_cut)
            if found and self._absence(ws) is since:
                shell.apply(WorkerLost(ws.address, f"{absence.cause}; {found}"))
                return

    def _absence(self, ws: Any) -> Any:
        return self._shell.state.away.get(ws)


def _pauses() -> Iterator[float]:
    yield from PAUSES_S
    while True:
        yield THEN_EVERY_S


async def what_became_of(address: str, pid: int, peer: str, was_cut: bool) -> str:
    """In words, when the process of the worker at ``address`` is known to have ended; else empty."""
    is_here = peer.startswith("unix") or (peer.startswith("tcp") and not is_elsewhere(peer))
    if is_here and pid and _has_ended(pid):
        return f"its process {pid} has ended"
    if not was_cut and await knock(address, KNOCK_S) is Door.SHUT:
        return "nobody listens at its address any more"
    return ""


def _has_ended(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
