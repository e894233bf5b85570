"""What a program says to a cluster as a whole: metadata, functions everywhere, files, copies, restarts, versions.
Real processes; bad input too."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed.cluster_dump import DumpArtefact

from distributed import Client, LocalCluster, wait
from tests.integration.facts import until


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster, set_as_default=False) as client:
        yield client


def fails_on(name: Any, dask_worker: Any) -> int:
    if dask_worker.name == name:
        raise ZeroDivisionError("here")
    return os.getpid()


def test_run_and_its_errors(client: Client) -> None:
    first, second = client.scheduler_info()["workers"]
    names = {address: worker["name"] for address, worker in client.scheduler_info()["workers"].items()}
    bad = names[first]
    with pytest.raises(ZeroDivisionError, match="here"):
        client.run(fails_on, bad)
    returned = client.run(fails_on, bad, on_error="return")
    assert isinstance(returned[first], ZeroDivisionError) and returned[second] > 0
    assert list(client.run(fails_on, bad, on_error="ignore")) == [second]
    assert list(client.run(fails_on, bad, workers=[second])) == [second]
    assert list(client.run(fails_on, bad, workers=second)) == [second]
    assert client.run(fails_on, bad, workers=[second], wait=False) is None
    of_nannies = client.run(os.getpid, nanny=True)
    assert set(of_nannies) == {first, second} and not set(of_nannies.values()) & set(client.run(os.getpid).values())
    with pytest.raises(ValueError, match="on_error"):
        client.run(os.getpid, on_error="shrug")
    with pytest.raises(TypeError, match="callable"):
        client.run(3)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="nobody"):
        client.run(os.getpid, workers=["nobody"])


def test_metadata_paths_and_defaults(client: Client) -> None:
    client.set_metadata("alone", 1)
    client.set_metadata(["a", "b"], {"c": [1, 2]})
    assert client.get_metadata("alone") == 1
    assert client.get_metadata(["a", "b", "c"]) == [1, 2]
    assert client.get_metadata("a") == {"b": {"c": [1, 2]}}
    assert client.get_metadata(["a", "z"], default=None) is None
    with pytest.raises(KeyError, match="z"):
        client.get_metadata(["a", "z"])
    with pytest.raises(TypeError, match="alone"):
        client.set_metadata(["alone", "below"], 1)
    with pytest.raises(ValueError, match="key"):
        client.set_metadata([], 1)


def test_datasets(client: Client, cluster: LocalCluster) -> None:
    client.publish_dataset(x=client.submit(abs, -1, key="kept-1"))
    client.publish_dataset([1, 2], name="y")
    client.datasets["z"] = 3
    with Client(cluster, set_as_default=False) as other:
        assert sorted(other.list_datasets()) == sorted(other.datasets) == ["x", "y", "z"]
        assert other.datasets["x"].result() == 1 and other.get_dataset("y") == [1, 2] and len(other.datasets) == 3
        assert "z" in other.datasets and "w" not in other.datasets and other.get_dataset("w", 5) == 5
        with pytest.raises(KeyError, match="x"):
            other.publish_dataset(x=2)
        other.publish_dataset(x=2, override=True)
        assert other.get_dataset("x") == 2
        del other.datasets["z"]
        other.unpublish_dataset("x")
        other.unpublish_dataset("y")
    with pytest.raises(KeyError, match="x"):
        client.get_dataset("x")
    with pytest.raises(ValueError, match="exactly one"):
        client.publish_dataset(1, 2, name="two")
    assert not client.list_datasets()


def test_current_and_several_clients(cluster: LocalCluster) -> None:
    with pytest.raises(ValueError, match="no client"):
        Client.current(allow_global=False)
    with Client(cluster) as a, Client(cluster, set_as_default=False) as b:
        assert Client.current() is a and a.id != b.id
        with b.as_current():
            assert Client.current() is Client.current(allow_global=False) is b
        with pytest.raises(ValueError):
            Client.current(allow_global=False)
        assert b.submit(abs, -1).result() == a.submit(abs, -1).result() == 1


def test_what_a_client_wanted_goes_with_it(client: Client, cluster: LocalCluster) -> None:
    with Client(cluster, set_as_default=False) as other:
        future = other.submit(abs, -3, key="wanted-3")
        assert future.result() == 3
        assert client.who_has()["wanted-3"]
    until(lambda: "wanted-3" not in client.who_has())


def test_copies_and_balance(client: Client) -> None:
    first, second = client.has_what()
    futures = client.map(lambda x: bytes(100_000 + x), range(8), workers=[first], pure=False)
    wait(futures)
    client.rebalance(futures)
    assert {len(keys) for keys in client.has_what().values()} == {4}
    client.replicate(futures, n=2, branching_factor=2)
    assert {len(keys) for keys in client.has_what().values()} == {8}
    client.replicate(futures, n=1, workers=[second])
    assert set(client.who_has(futures).values()) == {(second,)}
    for n in (0, -1):
        with pytest.raises(ValueError, match="n must be"):
            client.replicate(futures, n=n)


def call_uploaded(name: str) -> Any:
    module = __import__(name)
    return module.answer()


def test_files_also_for_late_comers(client: Client, cluster: LocalCluster, tmp_path: Path) -> None:
    code = "def answer():\n    return {!r}\n"
    (tmp_path / "up_py.py").write_text(code.format("py"))
    for suffix in ("zip", "egg"):
        with zipfile.ZipFile(tmp_path / f"up_{suffix}.{suffix}", "w") as archive:
            archive.writestr(f"up_{suffix}/__init__.py", code.format(suffix))
    for suffix in ("py", "zip", "egg"):
        client.upload_file(tmp_path / f"up_{suffix}.{suffix}")
        assert set(client.run(call_uploaded, f"up_{suffix}").values()) == {suffix}
    before = set(client.scheduler_info()["workers"])
    cluster.scale(3)
    client.wait_for_workers(3)
    [late] = set(client.scheduler_info()["workers"]) - before
    for suffix in ("py", "zip", "egg"):
        assert client.submit(call_uploaded, f"up_{suffix}", workers=[late], pure=False).result() == suffix
    (tmp_path / "bad_syntax.py").write_text("def (:\n")
    with pytest.raises(SyntaxError):
        client.upload_file(tmp_path / "bad_syntax.py")
    with pytest.raises(FileNotFoundError):
        client.upload_file(tmp_path / "nothing.py")
    with pytest.raises(TypeError, match="path"):
        client.upload_file(3)
    retired = client.retire_workers([late])
    assert list(retired) == [late]
    until(lambda: late not in client.scheduler_info()["workers"])
    cluster.scale(2)
    assert client.retire_workers(["nobody"]) == {}


def marks(dask_worker: Any) -> None:
    dask_worker.marked = True


def test_callbacks_and_restarted_workers(client: Client) -> None:
    client.register_worker_callbacks(marks)
    client.wait_for_workers(2)
    first, *_ = client.scheduler_info()["workers"]
    pids = client.run(os.getpid)
    future = client.submit(abs, -5, key="again-5", workers=[first], allow_other_workers=True)
    assert future.result() == 5
    assert client.restart_workers([first], timeout=60) == {first: "OK"}
    client.wait_for_workers(2)
    assert set(pids.values()) != set(client.run(os.getpid).values())
    assert future.result() == 5
    assert set(client.run(lambda dask_worker: dask_worker.marked).values()) == {True}
    with pytest.raises(ValueError, match="nobody"):
        client.restart_workers(["nobody"])


def test_versions(client: Client) -> None:
    found = client.get_versions(check=True, packages=["msgspec"])
    assert found["client"]["packages"]["msgspec"] == found["scheduler"]["packages"]["msgspec"]
    assert len(found["workers"]) == 2
    client.run(_lie)
    with pytest.raises(ValueError, match=r"(?s)msgspec.*0\.0\.1") as caught:
        client.get_versions(check=True, packages=["msgspec"])
    assert len([line for line in str(caught.value).splitlines() if "msgspec" in line]) == 1
    client.run(_tell_the_truth)


def _lie() -> None:
    from distributed.base import versions

    versions._true = versions.get_versions  # type: ignore[attr-defined]

    def lie(packages: Any = None) -> Any:
        found = versions._true(packages)  # type: ignore[attr-defined]
        found["packages"]["msgspec"] = "0.0.1"
        return found

    versions.get_versions = lie


def _tell_the_truth() -> None:
    from distributed.base import versions

    versions.get_versions = versions._true  # type: ignore[attr-defined]


def test_story_and_dump(client: Client, tmp_path: Path) -> None:
    future = client.submit(abs, -9, key="told-9")
    future.result()
    steps = [(step[1], step[2]) for step in client.story("told-9")]
    assert steps[0] == ("released", "waiting") and steps[-1] == ("processing", "memory")
    client.dump_cluster_state(str(tmp_path / "dump"))
    dump = DumpArtefact.from_url(str(tmp_path / "dump.msgpack.gz"))
    assert "told-9" in dump.scheduler_tasks_in_state("memory")
    assert dump.scheduler_story("told-9")
