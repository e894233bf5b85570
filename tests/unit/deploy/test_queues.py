"""Scripts of jobs, and what batch systems say, as text. No engine runs."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import dask.config
import pytest

from distributed.comm import secrets
from distributed.deploy.queues import Job, JobQueueCluster, SLURMCluster, SlurmCluster, SlurmJob
from distributed.deploy.queues.keywords import Keywords
from distributed.deploy.queues.script import walltime_text

ONE = {"cores": 2, "memory": "2 GiB", "python": "py"}


def script(dialect: type[Job], numbers: Any = (7,), **keywords: Any) -> str:
    keywords = {**ONE, **keywords}
    request = Keywords(dialect, dialect.config_name, keywords).request("c", Path("/shared/c"), {}, None)
    return dialect.script(request, list(numbers))


def run(text: str, **variables: str) -> list[str]:
    """What the worker's command line would be: the script, with a Python that only prints."""
    shell = 'py() { for word; do echo "$word"; done; }\n' + text
    done = subprocess.run(["bash", "-eu", "-c", shell], env={**os.environ, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_the_script_of_one_slurm_job() -> None:
    text = script(SlurmJob, queue="debug", account="a1", walltime="00:30:00", job_extra_directives=["--exclusive"])
    assert text.splitlines()[:10] == [
        "#!/usr/bin/env bash",
        "#SBATCH --job-name=dask-worker",
        "#SBATCH --ntasks=1",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --mem=2048M",
        "#SBATCH --partition=debug",
        "#SBATCH --account=a1",
        "#SBATCH --time=00:30:00",
        "#SBATCH --output=/shared/c/logs/dask-worker-%j.log",
        "#SBATCH --exclusive",
    ]
    words = run(text)
    assert words[:4] == ["-m", "distributed.cli.dask_worker", "--name", "c-7"]
    assert words[words.index("--scheduler-file") + 1] == "/shared/c/scheduler.json"
    assert words[words.index("--nthreads") + 1] == "2"
    assert words[words.index("--memory-limit") + 1] == str(2**31)


def test_tasks_of_an_array_have_the_names_of_their_jobs() -> None:
    text = script(SlurmJob, numbers=[3, 8, 9])
    assert "#SBATCH --array=1-3" in text.splitlines()
    for task, name in (("1", "c-3"), ("2", "c-8"), ("3", "c-9")):
        assert name in run(text, SLURM_ARRAY_TASK_ID=task)


def test_workers_end_before_their_job() -> None:
    words = run(script(SlurmJob, walltime="2:00:00"))
    lifetime = words[words.index("--lifetime") + 1]
    assert 7200 - 300 - 60 < int(lifetime.removesuffix("s")) <= 7200 - 300
    assert words[words.index("--lifetime-stagger") + 1] == "150s"
    late = run(script(SlurmJob, walltime="2:00:00", job_script_prologue=["SECONDS=1000"]))
    assert 5800 < int(late[late.index("--lifetime") + 1].removesuffix("s")) <= 5900
    assert "3000s" in run(script(SlurmJob, walltime="1 hour", lifetime_margin="10 minutes"))
    own = run(script(SlurmJob, walltime="1 hour", worker_extra_args=["--lifetime", "5m"]))
    assert own[own.index("--lifetime") + 1] == "5m"
    assert own.count("--lifetime") == 1
    assert "--lifetime" not in run(script(SlurmJob))


@pytest.mark.parametrize(
    ("given", "unit_s", "seconds"),
    [("30", 60, 1800), ("30", 1, 30), ("30:15", 60, 1815), ("1:00:00", 60, 3600), ("2-0", 60, 172800),
     ("1-2:30", 60, 95400), ("90 minutes", 60, 5400), (90, 60, 90)],
)  # fmt: skip
def test_times(given: Any, unit_s: float, seconds: float) -> None:
    assert walltime_text(given, unit_s)[1] == seconds


@pytest.mark.parametrize("given", ["soon", "1:2:3:x", "--", ""])
def test_a_time_that_is_none(given: str) -> None:
    with pytest.raises(ValueError, match="walltime="):
        walltime_text(given, 60)


def test_what_the_shell_of_the_job_sees(tmp_path: Path) -> None:
    text = script(
        SlurmJob,
        processes=2,
        local_directory="$PLACE/x y",
        job_script_prologue=[f"export PLACE={tmp_path}"],
        worker_extra_args=["--resources", "GPU=1 A=2"],
        job_directives_skip=["--mem="],
    )
    words = run(text)
    assert f"{tmp_path}/x y" in words
    assert "GPU=1 A=2" in words
    assert words[words.index("--nworkers") + 1] == "2"
    assert words[words.index("--nthreads") + 1] == "1"
    assert "--mem=" not in text


def test_keywords_come_from_the_settings_and_from_earlier_versions() -> None:
    with dask.config.set({"jobqueue.slurm.queue": "night", "jobqueue.slurm.job-extra-directives": ["-x"]}):
        assert "#SBATCH --partition=night" in script(SlurmJob)
        assert "#SBATCH -x" in script(SlurmJob)
        assert "#SBATCH --partition=day" in script(SlurmJob, queue="day")
    text = script(SlurmJob, project="p", env_extra=["A=1"], extra=["--no-dashboard"], job_extra=["-z"])
    assert "#SBATCH --account=p" in text
    assert "\nA=1\n" in text
    assert "--no-dashboard" in text
    assert "#SBATCH -z" in text


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"qeue": "x"}, "no keyword 'qeue'"), ({"cores": 0}, "cores= and memory="), ({"memory": None}, "cores= and"),
     ({"processes": 3}, "processes=3"), ({"worker_extra_args": "--x"}, "worker_extra_args= must be a list"),
     ({"walltime": "x"}, "walltime='x'"), ({"resource_spec": "x"}, "no keyword 'resource_spec'")],
)  # fmt: skip
def test_keywords_that_are_wrong(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(told)) as error:
        script(SlurmJob, **wrong)
    assert "\n" not in str(error.value)


def test_what_slurm_says() -> None:
    assert SlurmJob.job_ids("123\n", 1) == ["123"]
    assert SlurmJob.job_ids("a note\n123;east\n", 2) == ["123_1", "123_2"]
    for nonsense in ("", "Submitted"):
        with pytest.raises(ValueError):
            SlurmJob.job_ids(nonsense, 1)
    answer = "12_1 RUNNING None\n12_2 PENDING Resources\n13 CANCELLED by 0\n14 TIMEOUT TimeLimit\n15 COMPLETING None\n"
    assert set(SlurmJob.states(answer)) == {"12_1", "12_2"}
    assert SlurmJob.end_reasons(answer)["14"] == "TIMEOUT TimeLimit"
    assert SlurmJob.state_command(["12_1", "12_2", "13"])[-1] == "--jobs=12,13"


def test_a_cluster_shows_its_script_where_there_is_no_batch_system(
    private_places: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert SLURMCluster is SlurmCluster
    with pytest.raises(TypeError, match="SlurmCluster"):
        JobQueueCluster(cores=1, memory="1GB")
    with SlurmCluster(cores=1, memory="1GB", interface="lo", dashboard_address=":0") as cluster:
        folder = Path(cluster.request.folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "scheduler.json").stat().st_mode) == 0o600
        assert cluster.scheduler.secret.reveal() not in cluster.job_script(3)
        with pytest.raises(RuntimeError, match="sbatch is not found"):
            cluster.scale(2)
        assert not cluster.plan
    assert not folder.exists()
    with pytest.raises(RuntimeError, match="sbatch is not found"):
        SlurmCluster(2, cores=1, memory="1GB", interface="lo")
    assert secrets.store_directory().parent.joinpath("jobs").exists()
    assert not list(secrets.store_directory().parent.joinpath("jobs").iterdir())
