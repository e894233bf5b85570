"""A short run of the soak test, and that its reckoning notices what it is there to notice."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed import Client, LocalCluster
from distributed.base.errors import KilledWorker, WorkerDeath
from distributed.testing.chaos import Options, Tally, run
from distributed.testing.chaos.jobs import JOBS, JobRun, WrongResult, judge_given_up, run_job
from distributed.testing.chaos.traces import OwnDirectories, Traces


def test_nothing_wrong_is_found_in_a_short_run() -> None:
    # Seconds under faults; starting, healing and the reckoning come on top.
    tally = run(Options(seed=2, seconds=10, round_s=10, pause_s=1.5))
    assert not tally.violations, f"{tally.details()}\n{tally.table()}"
    assert tally.counts["results checked"] and tally.counts["faults"] and tally.counts["workers joined"] >= 3


def a_run(client: Any, name: str, directory: Path) -> JobRun:
    return JobRun(client, random.Random(1), Tally(), str(directory), name=name)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        yield client


@pytest.mark.parametrize("name", [name for name in JOBS if name != "exiting"])
def test_every_job_passes_without_faults(client: Client, name: str, tmp_path: Path) -> None:
    one = a_run(client, name, tmp_path)
    run_job(one, name)
    assert one.tally.counts[f"job {name}"] == one.tally.counts["jobs"] == 1
    assert one.tally.counts["results checked"]
    assert not [count for count in one.tally.counts if count.startswith("excused")]


def test_a_wrong_result_is_one(tmp_path: Path) -> None:
    with pytest.raises(WrongResult, match="expected 1, got 2"):
        a_run(None, "chain", tmp_path).expect(2, 1)


def test_giving_up_is_excused_only_after_enough_deaths() -> None:
    death = WorkerDeath("tcp://a:1", signal=9)
    judge_given_up(KilledWorker("x", "tcp://a:1", 1, [death, death]))
    with pytest.raises(KilledWorker):
        judge_given_up(KilledWorker("x", "tcp://a:1", 1, [death]))
    with pytest.raises(KilledWorker):  # a segmentation fault is nothing that a run does
        judge_given_up(KilledWorker("x", "tcp://a:1", 1, [death, WorkerDeath("tcp://b:1", signal=11)]))


def test_traces_are_found() -> None:
    tally = Tally()
    with OwnDirectories() as own:
        traces = Traces(own)
        done = threading.Event()
        thread = threading.Thread(target=done.wait)
        thread.start()
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        (own.path / "tmp" / "left").write_text("x")
        try:
            traces.check(tally, grace_s=0)
        finally:
            done.set()
            thread.join()
            process.communicate()
    kinds = {violation.kind for violation in tally.violations}
    assert {"leaked processes", "leaked threads", "leaked files"} <= kinds
    assert str(own.path) not in os.environ.get("TMPDIR", "")


def test_table_and_json(tmp_path: Path) -> None:
    tally = Tally()
    tally.add("tasks", 3)
    assert "must be 0" not in tally.table()
    tally.violation("stuck", "nothing moves")
    with pytest.raises(ValueError, match="kinds"):
        tally.violation("bad mood", "")
    assert "stuck" in tally.table() and "must be 0" in tally.table()
    tally.write(str(tmp_path / "found.json"), seed=7)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["seed"] == 7 and found["must_be_zero"]["stuck"] == 1 and found["counts"] == {"tasks": 3}
    assert found["violations"][0]["text"] == "nothing moves"
