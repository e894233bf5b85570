"""Task stream, profile, memory, dump, report, and a task again at home: on real worker processes."""

from __future__ import annotations

import asyncio
import inspect
import time
from pathlib import Path

import pytest

import distributed
from distributed import Client, LocalCluster, MemorySampler, get_task_metadata, get_task_stream, performance_report
from distributed.diagnostics.cluster_dump import DumpArtefact, load_cluster_dump
from tests.integration.facts import until


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        yield client


def inc(x):
    return x + 1


def spin(seconds, i=0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))
    return i


def fail(x):
    raise ZeroDivisionError(f"not with {x}")


def test_task_stream(client, tmp_path):
    with get_task_stream(plot="save", filename=tmp_path / "stream.html") as stream:
        good = client.map(inc, range(10))
        bad = client.submit(fail, 1, pure=False)
        client.gather(good)
        assert isinstance(bad.exception(), ZeroDivisionError)
    by_key = {record["key"]: record for record in stream.data}
    assert set(by_key) == {future.key for future in [*good, bad]}
    record = by_key[good[3].key]
    assert record["worker"] in client.scheduler_info()["workers"]
    assert (record["status"], record["typename"]) == ("OK", "int")
    assert record["startstops"][0]["start"] <= record["startstops"][0]["stop"]
    assert by_key[bad.key]["status"] == "error"
    text = (tmp_path / "stream.html").read_text()
    assert text.count("<rect") == 11
    assert "failed" in text
    assert "<svg" in stream.figure._repr_html_()
    assert len(client.get_task_stream(count=3)) == 3
    assert client.get_task_stream(start="1 h")[-1]["key"] in by_key
    assert client.get_task_stream(stop=0) == []
    with pytest.raises(TypeError, match="5 min"):
        client.get_task_stream(start=[1])


def test_task_stream_by_nobody_costs_nothing(cluster):
    with LocalCluster(n_workers=0, dashboard_address=None) as fresh, Client(fresh):
        assert "task-stream" not in fresh.scheduler.plugins
        assert not fresh.scheduler.shell.plugins.hooks("transition")


def test_task_metadata(client):
    with get_task_metadata() as noted:
        future = client.submit(inc, 1, pure=False)
        bad = client.submit(fail, 2, pure=False)
        distributed.wait([future, bad])
    assert noted.state == {future.key: "memory", bad.key: "erred"}
    assert noted.metadata[future.key] == {}


def names(tree):
    yield tree["description"]["name"]
    for child in tree["children"].values():
        yield from names(child)


def test_profile(client, tmp_path):
    begin = time.time()
    client.gather([client.submit(spin, 0.3, i, pure=False) for i in range(2)])
    tree = client.profile()
    assert tree["count"] > 0
    assert "spin" in set(names(tree))
    assert "executor.py" not in str(next(iter(tree["children"].values()))["description"]["filename"])
    assert client.profile(key="spin")["count"] > 0
    assert client.profile(key="no-such-prefix")["count"] == 0
    assert client.profile(stop=begin - 100)["count"] == 0
    apart = client.profile(merge_workers=False)
    assert set(apart) == set(client.scheduler_info()["workers"])
    _, picture = client.profile(plot="save", filename=str(tmp_path / "profile.html"))
    assert "spin" in (tmp_path / "profile.html").read_text()
    assert "spin" in picture.svg
    with pytest.raises(ValueError, match="only tasks"):
        client.profile(server=True)


def test_the_profiler_sleeps_while_nothing_runs(client):
    def awake():
        from distributed.worker.profiling import sampler

        return sampler.awake

    client.submit(spin, 0.05, pure=False).result()
    until(lambda: not any(client.run(awake).values()))


def test_memory_sampler(client):
    sampler = MemorySampler()
    with sampler.sample("one", measure="managed", interval=0.01):
        future = client.submit(lambda: b"x" * 10_000_000, pure=False)
        distributed.wait(future)
        until(lambda: client.run_on_scheduler(managed) >= 10_000_000)
    with sampler.sample("two", interval=0.01):
        client.submit(inc, 1, pure=False).result()
    assert set(sampler.samples) == {"one", "two"}
    assert max(size for _, size in sampler.samples["one"]) >= 10_000_000
    frame = sampler.to_pandas(align=True)
    assert list(frame.columns) == ["one", "two"]
    assert sampler.plot().svg.count("<polyline") == 2
    with pytest.raises(ValueError, match="measure must be one of"):
        sampler.sample(client=client, measure="weight")
    with pytest.raises(ValueError, match="interval"):
        sampler.sample(client=client, interval=0)


def managed(dask_scheduler):
    return sum(ws.memory.managed for ws in dask_scheduler.workers.values())


@pytest.mark.parametrize("format", ["msgpack", "yaml"])
@pytest.mark.parametrize("there", [False, True])
def test_cluster_dump(client, tmp_path, format, there):
    future = client.submit(inc, 1, key="to-be-seen")
    bad = client.submit(fail, 1, key="failing", pure=False)
    distributed.wait([future, bad])
    client.dump_cluster_state(str(tmp_path / "dump"), write_from_scheduler=there, format=format)
    (path,) = tmp_path.iterdir()
    dump = DumpArtefact.from_url(str(path))
    assert dump["scheduler"]["tasks"]["to-be-seen"]["state"] == "memory"
    assert "not with 1" in dump["scheduler"]["tasks"]["failing"]["exception_text"]
    assert set(dump.scheduler_tasks_in_state("erred")) >= {"failing"}
    assert "to-be-seen" in dump.worker_tasks_in_state()
    assert dump.scheduler_story("to-be-seen")
    assert any(dump.worker_story("to-be-seen").values())
    assert dump.missing_workers() == []
    dump.to_yamls(tmp_path / "parts")
    assert len(list((tmp_path / "parts").iterdir())) == 3


def test_bad_dumps(client, tmp_path):
    with pytest.raises(ValueError, match="format must be one of"):
        client.dump_cluster_state(format="json")
    with pytest.raises(TypeError, match="exclude="):
        client.dump_cluster_state(exclude="tasks")
    with pytest.raises(ValueError, match="ends in"):
        (tmp_path / "x.txt").write_text("")
        load_cluster_dump(str(tmp_path / "x.txt"))
    with pytest.raises(ValueError, match="no cluster dump"):
        (tmp_path / "x.yaml").write_text("a: 1")
        load_cluster_dump(str(tmp_path / "x.yaml"))


def test_a_task_again_at_home(client):
    a = client.submit(inc, 1, pure=False)
    b = client.submit(sum, [a, a, 10], pure=False)
    assert client.recreate_task_locally(b) == b.result() == 14
    bad = client.submit(fail, b, pure=False)
    after = client.submit(inc, bad, pure=False)
    for future in (bad, after):
        with pytest.raises(ZeroDivisionError, match="not with 14") as caught:
            client.recreate_error_locally(future)
        assert caught.traceback[-1].name == "fail"
    with pytest.raises(ValueError, match="has not failed"):
        client.recreate_error_locally(a)
    with pytest.raises(ValueError, match="nothing to run"):
        client.recreate_task_locally(client.scatter(1))
    with pytest.raises(TypeError, match="future"):
        client.recreate_task_locally(5)


def test_a_node_of_a_graph_again_at_home(client):
    dask = pytest.importorskip("dask")
    total = dask.delayed(sum)([dask.delayed(inc)(i) for i in range(3)])
    future = client.compute(total)
    assert client.recreate_task_locally(future) == future.result() == 6


def test_performance_report(client, tmp_path):
    with performance_report(tmp_path / "report.html"):
        client.gather([client.submit(spin, 0.1, i, pure=False) for i in range(2)])
    text = (tmp_path / "report.html").read_text()
    for part in ("Task stream", "Profile", "Memory", "spin", "2, 0 of them failed", "performance_report("):
        assert part in text, part


def test_asynchronous_clients(cluster, tmp_path):
    async def story():
        async with Client(cluster, asynchronous=True) as client, performance_report(tmp_path / "report.html"):
            async with get_task_stream() as stream, MemorySampler().sample(interval=0.01):
                future = client.submit(inc, 1, pure=False)
                assert await future == 2
            assert [record["key"] for record in stream.data] == [future.key]
            assert await client.recreate_task_locally(future) == 2
            assert (await client.profile())["identifier"] == "root"

    asyncio.run(story())
    assert (tmp_path / "report.html").exists()


def test_output_of_a_task_survives_its_worker(client, cluster):
    def speak():
        distributed.print("before the end")

    future = client.submit(speak, pure=False)
    future.result()
    client.restart_workers(list(client.who_has(future)[future.key]))
    assert client.get_task_output(future).startswith("before the end\n")
    assert client.get_task_output("never-ran") == ""


def test_benchmark_hardware(client):
    found = client.benchmark_hardware()
    assert set(found) == {"memory", "disk", "network"}
    assert all(rate > 0 for rates in found.values() for rate in rates.values())
    assert found["network"]


def test_every_new_method_is_documented():
    for name in ("get_task_stream", "profile", "dump_cluster_state", "recreate_task_locally", "benchmark_hardware"):
        assert inspect.getdoc(getattr(Client, name))
    assert Path(distributed.diagnostics.__file__).exists()
