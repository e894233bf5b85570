"""The main job on real input: what the cluster computes equals a plain computation in one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed import Client, LocalCluster
from examples import flights, stdlib_census


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        yield client


def test_census_of_the_standard_library(client: Client, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("def f(:\n")
    files = [*stdlib_census.module_files(packages=["json", "email", "asyncio", "concurrent"]), str(broken)]
    total, bad = stdlib_census.run(client, files)
    expected, expected_bad = stdlib_census.run_plain(files)
    assert list(bad) == list(expected_bad) == [str(broken)]
    assert "SyntaxError" in bad[str(broken)]
    for part in ("counts", "imported", "longest"):
        assert total[part] == expected[part]
    assert sum(total["tasks"].values()) == len(files) - 1
    assert set(total["tasks"]) == {"worker 0", "worker 1"}
    report = stdlib_census.report(client, total, bad)
    assert "worked at the second attempt" in report


def test_flights(client: Client, tmp_path: Path) -> None:
    paths = flights.split(str(tmp_path), parts=12)
    result = flights.run(client, paths)
    assert sum(result["count"]) == 336_776
    expected = flights.run_plain(paths)
    assert result["count"] == expected["count"]
    for by in flights.GROUPINGS:
        ours, theirs = result[" ".join(by)], expected[" ".join(by)]
        assert ours.keys() == theirs.keys()
        for group in ours:
            assert ours[group] == pytest.approx(theirs[group])
    assert "flights" in flights.report(result)
