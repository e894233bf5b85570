"""Names that other packages build on: bars to subclass, plugins by hand, a sampler, a monitor."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from distributed.recreate_tasks import ReplayTaskClient
from distributed.system_monitor import SystemMonitor
from distributed.utils import LoopRunner

from distributed import BaseActorFuture, Client, SchedulerPlugin, profile
from distributed.client import get_task_metadata, performance_report
from distributed.diagnostics import task_stream
from distributed.diagnostics.progressbar import ProgressBar, TextProgressBar
from distributed.diagnostics.report import performance_report as report
from distributed.scheduler import CollectTaskMetaDataPlugin
from distributed.testing import gen_cluster, inc, poll_for, slowinc


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as client:
        yield client


class Bar(ProgressBar):
    """As coffea has one: it listens on a loop of its own."""

    def __init__(self, keys: Any) -> None:
        super().__init__(keys, interval="5ms")
        self.drawn: list[tuple[int, int]] = []
        self.stopped: list[str] = []
        LoopRunner().run_sync(self.listen)

    def _draw_bar(self, remaining: int, all: int, **kwargs: Any) -> None:
        self.drawn.append((remaining, all))

    def _draw_stop(self, remaining: int, status: str, **kwargs: Any) -> None:
        self.stopped.append(status)


class RichBar(TextProgressBar):
    """As esmvalcore has one: made, and thereby drawn to its end."""

    drawn: tuple[int, int] | None = None
    stopped: str | None = None

    def _draw_bar(self, remaining: int, all: int, **kwargs: Any) -> None:
        self.drawn = (remaining, all)

    def _draw_stop(self, **kwargs: Any) -> None:
        self.stopped = kwargs["status"]


def test_bars_to_subclass(client: Client) -> None:
    futures = client.map(slowinc, range(4), delay=0.02)
    bar = Bar(futures)
    assert bar.drawn[-1] == (0, 4) and bar.stopped == ["finished"]
    by_key = Bar([futures[0].key])
    assert by_key.drawn == [(0, 1)]
    failing = client.submit(lambda: 1 / 0)
    rich = RichBar([*futures, failing])
    assert rich.drawn == (0, 5) and rich.stopped == "error"


def test_bar_of_text(client: Client) -> None:
    file = io.StringIO()
    bar = TextProgressBar(client.map(inc, range(3)), file=file, width=10)
    assert bar.status == "finished"
    assert "[##########] | 100% Completed" in file.getvalue()


@gen_cluster(client=True)
async def test_plugins_by_hand(c: Any, s: Any, a: Any, b: Any) -> None:
    earlier = c.submit(inc, 0)
    await earlier
    collector = CollectTaskMetaDataPlugin(s, "collector")
    stream = task_stream.TaskStreamPlugin(s, maxlen=3)
    assert isinstance(stream, SchedulerPlugin)
    s.add_plugin(collector)
    s.add_plugin(stream)
    good, bad = c.submit(inc, 1), c.submit(lambda: 1 / 0, key="bad")
    assert await good == 2
    assert isinstance(await bad.exception(), ZeroDivisionError)
    assert collector.state == {good.key: "memory", "bad": "erred"}
    assert set(collector.metadata) == {good.key, "bad"} and not collector.keys
    await c.gather(c.map(inc, range(10, 15)))
    assert len(stream.collect()) == 3
    s.remove_plugin(name="collector")


def test_the_same_under_several_names() -> None:
    assert get_task_metadata is task_stream.get_task_metadata
    assert performance_report is report


def test_tasks_again(client: Client) -> None:
    again = ReplayTaskClient(client)
    assert again.recreate_task_locally(client.submit(inc, 5)) == 6
    with pytest.raises(ZeroDivisionError):
        again.recreate_error_locally(client.submit(lambda x: 1 / x, 0))


def test_answers_of_actors(client: Client) -> None:
    counter = client.submit(list, actor=True).result()
    assert isinstance(counter.append(1), BaseActorFuture)


def test_samples_of_a_thread() -> None:
    over = threading.Event()
    log = profile.watch(interval="1ms", cycle="20ms", stop=over.is_set)
    poll_for(lambda: len(log) >= 2, timeout=20)
    over.set()
    when, tree = log[-1]
    assert abs(when - time.time()) < 60
    assert tree["count"] > 0 and tree["children"]


def test_the_sampler_ends_with_its_thread() -> None:
    begun: list[Any] = []
    thread = threading.Thread(target=lambda: begun.append(profile.watch(interval="1ms", cycle="600s")))
    thread.start()
    thread.join()
    poll_for(lambda: len(begun[0]) == 1, timeout=20)


def test_monitor() -> None:
    monitor = SystemMonitor(maxlen=3)
    sample = monitor.update()
    assert sample == monitor.recent()
    assert sample["memory"] == monitor.get_process_memory() > 1_000_000
    assert set(sample) >= {"cpu", "time", "num_fds", "host_net_io.read_bps"}
    monitor.update()
    monitor.update()
    assert monitor.count == 4
    assert [len(monitor.range_query(start)["time"]) for start in (0, 1, 2, 3, 4)] == [3, 3, 2, 1, 0]
    monitor.close()
