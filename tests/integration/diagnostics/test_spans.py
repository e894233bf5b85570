"""Tasks counted by the named part of the program that submitted them."""

from __future__ import annotations

import asyncio

import dask
import pytest

from distributed import Client, LocalCluster, Span, span, wait
from tests.integration.facts import until


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


def inc(x):
    return x + 1


def fail():
    raise ValueError


def spans_of(cluster):
    return cluster.scheduler.extensions["spans"]


def test_nested_spans_count_their_tasks(cluster):
    with Client(cluster) as client:
        with span("work") as outer:
            with span("load") as inner:
                loaded = client.map(inc, range(5), pure=False)
            total = client.submit(sum, loaded, pure=False)
            bad = client.submit(fail, pure=False)
        outside = client.submit(inc, 1, pure=False)
        wait([total, bad, outside])
        until(lambda: spans_of(cluster).spans[outer].done)
        work, load = spans_of(cluster).spans[outer], spans_of(cluster).spans[inner]
        assert (work.name, load.name) == (("work",), ("work", "load"))
        assert load.parent is work and work.children == [load]
        assert load.states["memory"] == 5
        assert work.states["memory"] == 6 and work.states["erred"] == 1
        assert {group.name for group in load.traverse_groups()} < {group.name for group in work.traverse_groups()}
        assert 0 < work.start <= load.start + 10 and work.stop >= work.start
        assert work.duration >= load.duration > 0
        assert work.nbytes_total > load.nbytes_total > 0
        assert [one.name for one in spans_of(cluster).find_by_tags("work")] == [("work",)]
        assert spans_of(cluster).merge_by_tags("load").states["memory"] == 5
        assert load.annotation["ids"] == (outer, inner)
        assert ("default",) in spans_of(cluster).spans_search_by_name
        metrics = work.cumulative_worker_metrics
        computed = ("execute", "inc", "compute", "seconds")
        assert 0 < load.cumulative_worker_metrics[computed] <= work.all_durations["compute"]
        assert metrics[computed] == load.cumulative_worker_metrics[computed]
        assert {(begin >= work.enqueued, n) for begin, _, n in work.nthreads_intervals} == {(True, 2)}
        active_s = work.stop - work.enqueued
        assert work.active_cpu_seconds == pytest.approx(2 * active_s)
        idle = metrics["execute", "N/A", "idle or other spans", "seconds"]
        assert idle == pytest.approx(2 * active_s - work.all_durations["compute"])
        both = spans_of(cluster).merge_all()
        assert both.active_cpu_seconds >= work.active_cpu_seconds
        work.add_metadata({"who": "me"})
        assert work.metadata == {"who": "me"}
        listed = client.sync(client.session.call, "spans")
        assert {tuple(one["name"]) for one in listed} >= {("work",), ("work", "load"), ("default",)}
        del loaded, total, bad, outside
        until(lambda: not spans_of(cluster)._of_task)


def test_spans_of_collections_and_of_asynchronous_clients(cluster):
    async def story():
        async with Client(cluster, asynchronous=True) as client:
            with span("delayed", "deeply"):
                future = client.compute(dask.delayed(inc)(dask.delayed(inc)(1)), optimize_graph=False)
            assert await future == 3

    asyncio.run(story())
    (one,) = spans_of(cluster).find_by_tags("deeply")
    assert one.name == ("delayed", "deeply")
    assert one.parent.name == ("delayed",)


def test_threads_that_come_and_go():
    one = Span(("a",), "1", None)
    other = Span(("b",), "2", None)
    one.enqueued, one._last = 10.0, 20.0
    other.enqueued, other._last = 15.0, 30.0
    one._nthreads = other._nthreads = [(0.0, 2), (12.0, 4), (25.0, 1)]
    assert one.nthreads_intervals == [(10.0, 12.0, 2), (12.0, 20.0, 4)]
    assert one.active_cpu_seconds == 36.0
    assert Span.merge(one, other).nthreads_intervals == [(10.0, 12.0, 2), (12.0, 25.0, 4), (25.0, 30.0, 1)]
    assert Span.merge().nthreads_intervals == []


def test_no_span_no_plugin():
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        with dask.annotate(colour="red"):
            client.submit(inc, 1).result()
        assert "spans" not in cluster.scheduler.plugins


@pytest.mark.parametrize("tags", [(), (1,), ("",)])
def test_bad_names(tags):
    with pytest.raises(ValueError, match="one or more names"), span(*tags):
        pass
