"""``SlurmCluster`` on a real Slurm of three nodes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from distributed import Client
from distributed.deploy.queues import SlurmCluster, SlurmJob
from distributed.testing import gen_test, inc, poll_for
from tests.engines.slurm import Slurm, require_slurm

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    require_slurm()
    found = Slurm(tmp_path_factory.mktemp("slurm"))
    yield found
    found.close()


@pytest.fixture
def slurm(engine: Slurm, private_places: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    for name, value in engine.environment.items():
        monkeypatch.setenv(name, value)
    yield engine
    poll_for(lambda: not engine.jobs(), timeout=30)


def cluster(**keywords: Any) -> SlurmCluster:
    sizes = {"cores": 1, "memory": "500 MB", "walltime": "10 minutes", "interface": "lo", "dashboard_address": ":0"}
    return SlurmCluster(**{**sizes, **keywords})


def names(client: Client) -> set[str]:
    return {str(worker["name"]) for worker in client.scheduler_info()["workers"].values()}


def tell_of_programs() -> str:
    """Arguments and environment of all workers' programs of this machine."""
    said = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
            if any("dask_worker" in word for word in line):
                said.append(" ".join([*line, *process.environ().values()]))
        except psutil.Error:
            pass
    assert said
    return "\n".join(said)


def test_an_array_job_its_scaling_and_its_logs(slurm: Slurm, tmp_path: Path) -> None:
    with cluster(log_directory=str(tmp_path), job_name="tests") as jobs, Client(jobs) as client:
        jobs.scale(jobs=3)
        ids = slurm.jobs()
        assert len({job_id.partition("_")[0] for job_id in ids}) == 1  # one array job
        client.wait_for_workers(3, timeout=60)
        assert client.gather(client.map(inc, range(20))) == list(range(1, 21))
        assert names(client) == {f"{jobs.name}-{i}" for i in range(3)}
        secret = jobs.scheduler.secret.reveal()
        assert secret not in tell_of_programs()
        assert secret not in "".join(slurm.run("scontrol", "write", "batch_script", job_id, "-") for job_id in ids)
        logs = jobs.get_logs()
        assert all("Registered" in logs[name] for name in names(client))
        jobs.scale(1)
        poll_for(lambda: len(slurm.jobs()) == 1, timeout=30)
        jobs.scale(memory="1 GB")
        client.wait_for_workers(2, timeout=60)
    poll_for(lambda: not slurm.jobs(), timeout=30)
    assert len(list(tmp_path.glob("tests-*.log"))) == 4


def test_a_job_that_vanishes_is_noticed_and_replaced(slurm: Slurm, caplog: pytest.LogCaptureFixture) -> None:
    with cluster(silence_logs=False) as jobs, Client(jobs) as client:
        jobs.scale(2)
        client.wait_for_workers(2, timeout=60)
        gone = jobs.workers[0].job_id
        futures = client.map(inc, range(50))
        slurm.run("scancel", gone)
        poll_for(lambda: gone not in slurm.jobs() and len(slurm.jobs()) == 2, timeout=60)
        client.wait_for_workers(2, timeout=60)
        assert client.gather(futures) == list(range(1, 51))
        assert f"has ended with its job {gone}, CANCELLED" in caplog.text


def test_workers_hand_over_before_the_walltime(slurm: Slurm) -> None:
    """Slurm's shortest walltime is a minute: the margin leaves 8 s of it."""
    with cluster(walltime="00:01:00", lifetime_margin="52s", poll_interval="1s") as jobs, Client(jobs) as client:
        jobs.scale(1)
        client.wait_for_workers(1, timeout=60)
        first = jobs.workers[0].job_id
        future = client.submit(os.getpid)
        value = future.result(timeout=30)
        (address,) = client.scheduler_info()["workers"]
        jobs.scale(2)
        poll_for(lambda: address not in client.scheduler_info()["workers"], timeout=60)
        assert future.result(timeout=30) == value  # at once: the other one does not live much longer
        poll_for(lambda: first not in slurm.jobs(), timeout=60)
        client.wait_for_workers(1, timeout=60)
        assert "COMPLETED" in slurm.run("scontrol", "show", "job", str(first))


def test_several_workers_in_a_job_and_adaptive_scaling(slurm: Slurm) -> None:
    with cluster(cores=2, processes=2) as jobs, Client(jobs) as client:
        adaptive = jobs.adapt(minimum_jobs=0, maximum_jobs=2, interval="100ms", wait_count=5)
        assert (adaptive.minimum, adaptive.maximum) == (0, 4)
        futures = client.map(lambda x: (x, __import__("time").sleep(0.2)), range(60))
        poll_for(lambda: len(slurm.jobs()) == 2, timeout=60)
        assert len(jobs.plan) == 4
        client.gather(futures)
        del futures
        poll_for(lambda: not slurm.jobs(), timeout=60)
        assert client.submit(inc, 1).result(timeout=60) == 2
        assert len(slurm.jobs()) == 1
        assert names(client) <= {f"{name}-{i}" for name in jobs.workers for i in range(2)}


def test_slurm_refuses(slurm: Slurm) -> None:
    with pytest.raises(RuntimeError, match="invalid partition specified: nowhere") as error:
        cluster(n_workers=1, queue="nowhere")
    assert "\n" not in str(error.value)
    with cluster(job_extra_directives=["--nodelist=n99"]) as jobs:
        with pytest.raises(RuntimeError, match="sbatch has failed with exit code 1: sbatch: error:"):
            jobs.scale(2)
        assert not jobs.plan


def test_jobs_that_end_in_vain_are_given_up(slurm: Slurm, caplog: pytest.LogCaptureFixture) -> None:
    with cluster(job_script_prologue=["echo no such module >&2", "exit 3"], poll_interval="200ms") as jobs:
        jobs.scale(1)
        poll_for(lambda: "No more are submitted" in caplog.text, timeout=60)
        assert not jobs.plan
        assert "no such module" in caplog.text
        assert "no such module" in jobs.get_logs()[f"{jobs.name}-0"]


class OneByOne(SlurmJob):
    longest_array = 1


@gen_test()
async def test_asynchronous_and_a_class_of_jobs_of_ones_own(slurm: Slurm) -> None:
    async with cluster(asynchronous=True, job_cls=OneByOne) as jobs, Client(jobs, asynchronous=True) as client:
        await jobs.scale(2)
        assert not any("_" in job.job_id for job in jobs.workers.values())
        await client.wait_for_workers(2, timeout=60)
        assert await client.submit(inc, 1) == 2
        closing = asyncio.ensure_future(jobs.scale(3))
        await asyncio.sleep(0)
    await asyncio.gather(closing, return_exceptions=True)
