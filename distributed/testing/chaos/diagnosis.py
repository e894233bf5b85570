"""Everything that is known about work that does not end: scheduler, workers and clients say what they wait for."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from typing import Any

from distributed.protocol.serialize import dumps
from distributed.testing.chaos.members import ChaosCluster

__all__ = ["diagnose", "stacks"]

_AT_MOST = 5


def stacks(*names: str) -> str:
    """Where the threads of this process stand whose names begin so."""
    frames = sys._current_frames()
    parts = []
    for thread in threading.enumerate():
        if thread.name.startswith(names) and thread.ident in frames:
            text = "".join(traceback.format_stack(frames[thread.ident])[-8:])
            parts.append(f"thread {thread.name}:\n{text}")
    return "\n".join(parts)


def diagnose(cluster: ChaosCluster) -> str:
    """Unfinished tasks with ``why`` and story, and what each worker says of itself."""
    parts = [f"cluster: {cluster!r}, plan {sorted(map(str, cluster.plan))}"]
    for name, member in list(cluster.workers.items()):
        pid = getattr(member, "pid", None)
        parts.append(f"member {name!r}: {member!r}, status {member.status}, pid {pid}")
    try:
        parts.append(_of_scheduler(cluster))
    except Exception as e:
        parts.append(f"the scheduler cannot be asked: {e!r}")
    try:
        parts.append(_of_workers(cluster))
    except Exception as e:
        parts.append(f"the workers cannot be asked: {e!r}")
    return "\n".join(parts)


def _of_scheduler(cluster: ChaosCluster) -> str:
    scheduler = cluster.scheduler

    async def look() -> str:
        state = scheduler.state
        lines = [repr(ws) for ws in state.workers.values()]
        waiting = [ts for ts in state.tasks.values() if ts.state not in ("memory", "erred", "released", "forgotten")]
        states: dict[str, int] = {}
        for ts in state.tasks.values():
            states[str(ts.state)] = states.get(str(ts.state), 0) + 1
        lines.append(f"tasks: {states}")
        for ts in waiting[:_AT_MOST]:
            lines.append(f"why {ts.key!r} ({ts.state}): {scheduler.explain(ts.key)}")
            lines += [f"    {line}" for line in scheduler.story(ts.key)[-20:]]
        return "\n".join(lines)

    text: str = cluster.sync(look, callback_timeout=10)
    return text


def _worker_view(dask_worker: Any) -> str:
    worker = dask_worker
    tasks = worker.state.tasks
    lines = [f"{worker!r}"]
    for key, ts in list(tasks.items())[:50]:
        if str(ts.state) not in ("memory", "released", "forgotten"):
            lines.append(f"  {key!r}: {ts!r} {worker.state.explain(key)}")
    return "\n".join(lines)


def _of_workers(cluster: ChaosCluster) -> str:
    """Asked one by one with a time limit: one that does not answer is a finding too."""
    comm = cluster.scheduler_comm

    async def ask(address: str) -> str:
        try:
            async with asyncio.timeout(5):
                answer = await comm.broadcast(
                    msg={"op": "run", "function": dumps(_worker_view), "args": dumps(()), "kwargs": dumps({})},
                    workers=[address],
                )
        except Exception as e:
            return f"{address}: no answer ({type(e).__name__}: {e})"
        return f"{address}: {answer.get(address)}"

    async def ask_all() -> list[str]:
        return list(await asyncio.gather(*[ask(address) for address in list(cluster.scheduler.workers)]))

    return "\n".join(cluster.sync(ask_all, callback_timeout=15))
