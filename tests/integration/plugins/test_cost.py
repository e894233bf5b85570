"""What nobody uses costs nothing on the way of a task: calls into code of plugins and events, counted, not timed."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import distributed
from distributed import Client, Scheduler, SchedulerPlugin, Worker, WorkerPlugin
from distributed.testing import gen_test, inc

ROOT = distributed.__path__[0]
ROOMS = ("plugins/", "diagnostics/", "coordination/", "http/")
FILES = (
    *("scheduler/plugin_host.py", "worker/plugin_host.py", "scheduler/event_log.py", "client/event_handlers.py"),
    *("worker/printing.py", "worker/isolated.py", "worker/interrupting.py", "client/retry.py", "worker/actor_calls.py"),
)
N_TASKS = 200


@contextlib.contextmanager
def counted() -> Iterator[Counter[str]]:
    """Calls in this thread, which is that of client, scheduler and worker, by ``file: function``, where they are of
    what tasks do without."""
    calls: Counter[str] = Counter()

    def note(frame: Any, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(ROOT):
            name = frame.f_code.co_filename[len(ROOT) + 1 :]
            if name.startswith(ROOMS) or name in FILES:
                calls[f"{name}: {frame.f_code.co_qualname}"] += 1

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


async def work(client: Client) -> None:
    first = client.map(inc, range(N_TASKS), pure=False)
    assert sum(await client.gather(client.map(inc, first, pure=False))) == sum(range(N_TASKS)) + 2 * N_TASKS
    assert await client.submit(sum, first) == sum(range(N_TASKS)) + N_TASKS


class Idle(SchedulerPlugin):
    """Hears of workers and of events; tasks are nothing to it."""

    def add_worker(self, scheduler: Any, worker: str) -> None:
        raise AssertionError("no worker comes")

    def log_event(self, topic: str, msg: Any) -> None: ...


class IdleToo(WorkerPlugin):
    def teardown(self, worker: Any) -> None: ...


class Listens(SchedulerPlugin):
    n = 0

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        self.n += 1


@gen_test()
async def test_what_nobody_uses_is_not_called() -> None:
    async with Scheduler(port=0) as s, Worker(s.address, heartbeat_interval="60s") as w:
        async with Client(s.address, asynchronous=True, set_as_default=False) as c:
            await work(c)  # all that is made with the first task is made
            n_events = {topic: len(events) for topic, events in s.get_events().items()}
            with counted() as calls:
                await work(c)
            assert not calls
            assert {topic: len(events) for topic, events in s.get_events().items()} == n_events

            # Plugins without a hook for tasks, a topic that is heard, an event that is set: no different.
            s.add_plugin(Idle())
            await c.register_plugin(IdleToo())
            await c.subscribe_topic("quiet", print)
            await distributed.Event("x", client=c).set()
            with counted() as calls:
                await work(c)
            assert not calls
            assert not s.state.record and not w.plugin_host.watchers

            # And who does listen is counted by the same measure.
            listens = Listens()
            s.add_plugin(listens)
            with counted() as calls:
                await work(c)
            assert listens.n > 2 * N_TASKS
            assert sum(calls.values()) > 2 * N_TASKS
