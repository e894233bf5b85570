"""Many workers in one process that only speak: they report each task done at once, without running it.

``python -m benchmarks.light_workers SCHEDULER_FILE N`` registers N of them with a real scheduler over real sockets,
prints ``ready`` and goes on until its standard input ends. What is left is the work of the scheduler.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from typing import Any

from distributed.comm.keys import Secret
from distributed.messages.control import RegisterWorker
from distributed.messages.scheduler_to_worker import ComputeTask
from distributed.messages.worker_to_scheduler import Heartbeat, TaskFinished
from distributed.protocol.serialize import dumps
from distributed.rpc.connection import Connection
from distributed.worker import registration

RESULT = dumps(1, "result")
DURATION_S = 2e-5


class LightWorker:
    """One connection to the scheduler."""

    def __init__(self, number: int) -> None:
        self.address = f"tcp://127.0.0.1:{100_000 + number}"
        self.number = number
        self.connection: Connection | None = None
        self.interval_s = 1.0

    async def join(self, scheduler: str, secret: Secret | None) -> None:
        """Register, and answer from now on."""
        message = RegisterWorker(self.address, f"light-{self.number}", "127.0.0.1", 1, pid=os.getpid())
        connection, registered = await registration.register(
            scheduler, message, role="worker", secret=secret, handlers={}
        )
        self.connection = connection
        self.interval_s = registered.heartbeat_interval_s or 1.0
        connection.on_messages = self.on_messages
        self.beat()

    def on_messages(self, messages: list[Any]) -> None:
        """Whatever is to be computed is done."""
        assert self.connection is not None
        self.connection.send_many(
            [
                TaskFinished(m.key, m.run_id, 28, DURATION_S, "int", RESULT if m.wanted else None)
                for m in messages
                if type(m) is ComputeTask
            ]
        )

    def beat(self) -> None:
        """A sign of life, now and then."""
        if self.connection is not None and not self.connection.closed:
            self.connection.send(Heartbeat({}))
            asyncio.get_running_loop().call_later(self.interval_s, self.beat)


async def main(scheduler_file: str, n: int) -> None:
    """Run N workers until the standard input ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * n + 100)), hard))
    address, secret = await registration.read_file(scheduler_file, None)
    workers = [LightWorker(i) for i in range(n)]
    for start in range(0, n, 50):
        await asyncio.gather(*[worker.join(address, secret) for worker in workers[start : start + 50]])
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
