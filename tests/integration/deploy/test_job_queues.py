"""Clusters of jobs on a real Grid Engine and a real HTCondor: what ``test_slurm`` has, where batch systems differ."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import distributed
from distributed import Client
from distributed.deploy.queues import HTCondorCluster, JobQueueCluster, SGECluster
from distributed.testing import inc, poll_for
from tests.engines.condor import HTCondor, require_condor
from tests.engines.sge import GridEngine, require_sge
from tests.integration.cli.test_programs import SCHEDULER, WORKER
from tests.integration.cli.test_programs import running as running_program

pytestmark = pytest.mark.engine

SOURCE = Path(distributed.__file__).parents[1]
SYSTEMS = {"sge": (require_sge, GridEngine, SGECluster), "htcondor": (require_condor, HTCondor, HTCondorCluster)}


class System:
    """A running batch system and the class of its clusters."""

    def __init__(self, engine: Any, cls: type[JobQueueCluster]) -> None:
        self.engine, self.cls = engine, cls

    def cluster(self, **keywords: Any) -> JobQueueCluster:
        """These systems do not give a job the environment of who submits it."""
        prologue = [f"export PYTHONPATH={SOURCE}", *keywords.pop("job_script_prologue", ())]
        sizes = {"cores": 1, "memory": "500 MB", "interface": "lo", "dashboard_address": ":0"}
        return self.cls(**{**sizes, "job_script_prologue": prologue, **keywords})

    def jobs(self) -> list[str]:
        return list(self.engine.jobs())


@pytest.fixture(scope="module", params=list(SYSTEMS))
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    require, engine_class, cls = SYSTEMS[request.param]
    require()
    engine = engine_class(tmp_path_factory.mktemp(request.param))
    yield System(engine, cls)
    engine.close()


@pytest.fixture
def system(running: System, private_places: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    for name, value in running.engine.environment.items():
        monkeypatch.setenv(name, value)
    yield running
    poll_for(lambda: not running.jobs(), timeout=30)


def names(client: Client) -> set[str]:
    return {str(worker["name"]) for worker in client.scheduler_info()["workers"].values()}


def test_an_array_job_its_scaling_its_logs_and_a_job_that_vanishes(system: System, tmp_path: Path) -> None:
    with system.cluster(log_directory=str(tmp_path), job_name="tests") as jobs, Client(jobs) as client:
        jobs.scale(jobs=3)
        ids = system.jobs()
        assert len(ids) == 3
        assert len({job_id.partition(".")[0] for job_id in ids}) == 1  # one array job
        client.wait_for_workers(3, timeout=60)
        assert names(client) == {f"{jobs.name}-{i}" for i in range(3)}
        assert {job.job_id for job in jobs.workers.values()} == set(ids)
        gone = next(job.job_id for job in jobs.workers.values())
        futures = client.map(inc, range(50))
        system.engine.cancel(gone)
        poll_for(lambda: gone not in system.jobs() and len(system.jobs()) == 3, timeout=60)
        client.wait_for_workers(3, timeout=60)
        assert client.gather(futures) == list(range(1, 51))
        logs = jobs.get_logs()
        assert all("Registered" in logs[name] for name in names(client))
        jobs.scale(1)
        poll_for(lambda: len(system.jobs()) == 1, timeout=30)
        jobs.scale(memory="1 GB")
        client.wait_for_workers(2, timeout=60)
    poll_for(lambda: not system.jobs(), timeout=30)
    assert len(list(tmp_path.glob("tests-*.log"))) == 5


def test_workers_hand_over_before_the_walltime(system: System) -> None:
    keywords = {"walltime": "00:01:00", "lifetime_margin": "52s", "poll_interval": "1s"}
    with system.cluster(**keywords) as jobs, Client(jobs) as client:
        jobs.scale(1)
        client.wait_for_workers(1, timeout=60)
        first = next(job.job_id for job in jobs.workers.values())
        future = client.submit(time.time)
        value = future.result(timeout=30)
        (address,) = client.scheduler_info()["workers"]
        jobs.scale(2)
        poll_for(lambda: address not in client.scheduler_info()["workers"], timeout=60)
        assert future.result(timeout=30) == value  # at once: the other one does not live much longer
        poll_for(lambda: first not in system.jobs(), timeout=60)
        client.wait_for_workers(1, timeout=60)


def test_several_workers_in_a_job_and_adaptive_scaling(system: System) -> None:
    with system.cluster(cores=2, processes=2) as jobs, Client(jobs) as client:
        jobs.adapt(minimum_jobs=0, maximum_jobs=2, interval="100ms", wait_count=5)
        futures = client.map(lambda x: (x, time.sleep(0.2)), range(30))
        poll_for(lambda: len(system.jobs()) == 2, timeout=60)
        client.gather(futures)
        del futures
        poll_for(lambda: not system.jobs(), timeout=60)
        assert client.submit(inc, 1).result(timeout=60) == 2


def test_jobs_that_end_in_vain_are_given_up(system: System, caplog: pytest.LogCaptureFixture) -> None:
    keywords = {"job_script_prologue": ["echo no such module >&2", "exit 3"], "poll_interval": "200ms"}
    with system.cluster(**keywords) as jobs:
        jobs.scale(1)
        poll_for(lambda: "No more are submitted" in caplog.text, timeout=60)
        assert not jobs.plan
        assert "no such module" in caplog.text
        assert "no such module" in jobs.get_logs()[f"{jobs.name}-0"]


def test_jobs_that_are_stuck_are_cancelled_and_told(
    system: System, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with system.cluster(log_directory=str(tmp_path / "logs"), poll_interval="200ms") as jobs:
        (tmp_path / "logs").rmdir()  # the batch system cannot open the job's output
        jobs.scale(1)
        poll_for(lambda: "No more are submitted" in caplog.text, timeout=60)
        assert f"state {system.engine.stuck_state}" in caplog.text
        poll_for(lambda: not system.jobs(), timeout=30)


REFUSED = {
    "sge": ({"queue": "nowhere"}, 'qsub has failed with exit code 1: .*unknown queue "nowhere"'),
    "htcondor": ({"job_extra_directives": ["environment = x"]}, "condor_submit has failed with exit code 1: .*x"),
}


def test_what_the_system_refuses_is_told_in_its_words(system: System) -> None:
    keywords, told = REFUSED[system.cls.job_cls.config_name]
    with pytest.raises(RuntimeError, match=told) as error:
        system.cluster(n_workers=1, **keywords)
    assert "\n" not in str(error.value)


SPECIFIC = {
    "sge": {"cores": 2, "parallel_environment": "smp", "resource_spec": "arch=lx-amd64"},
    "htcondor": {"disk": "10MB", "job_extra_directives": {"requirements": "Cpus >= 1"}},
}


def test_a_single_job_with_what_only_this_system_knows(system: System) -> None:
    """The script is passed on as it is: quotes, blanks, signs that mean something to the batch system."""
    hard = ["if true; then", '    WORD=$(echo \'a  "b"\' | sed "s/$/$((1 + 1))/") # $(ProcId)', "fi", "export WORD"]
    keywords = SPECIFIC[system.cls.job_cls.config_name]
    with system.cluster(job_script_prologue=hard, **keywords) as jobs, Client(jobs) as client:
        jobs.scale(1)
        client.wait_for_workers(1, timeout=60)
        assert client.submit(os.getenv, "WORD").result(timeout=30) == 'a  "b"2'


@pytest.mark.parametrize("running", ["sge"], indirect=True)
def test_s58_workers_by_the_batch_systems_own_command(system: System, tmp_path: Path) -> None:
    """``qsub -b y -t 1-N dask-worker --scheduler-file``: the same command for each, without a name or port."""
    file = tmp_path / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
    worker = [*WORKER, "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1"]
    submit = ["qsub", "-terse", "-b", "y", "-V", "-j", "y", "-o", str(tmp_path), "-v", f"PYTHONPATH={SOURCE}"]
    job = system.engine.run(*submit, "-t", "1-6", *worker).partition(".")[0]
    try:
        with running_program([*SCHEDULER, *options]) as scheduler:
            scheduler.line(r"Start scheduler at")
            with Client(scheduler_file=str(file)) as client:
                client.wait_for_workers(6, timeout=90)
                assert client.gather(client.map(inc, range(20))) == list(range(1, 21))
    finally:
        system.engine.cancel(job)
