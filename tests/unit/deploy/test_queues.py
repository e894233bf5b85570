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
from distributed.deploy.queues import (
    HTCondorJob,
    Job,
    JobQueueCluster,
    PBSJob,
    SGEJob,
    SLURMCluster,
    SlurmCluster,
    SlurmJob,
)
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


def directives(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("#$", "#PBS"))]


def test_the_script_of_grid_engine() -> None:
    text = script(
        SGEJob, queue="all.q", project="p", walltime="01:00:00", resource_spec="h_vmem=2G", parallel_environment="smp"
    )
    assert directives(text) == [
        "#$ -S /bin/bash",
        "#$ -N dask-worker",
        "#$ -cwd",
        "#$ -j y",
        "#$ -q all.q",
        "#$ -P p",
        "#$ -pe smp 2",
        "#$ -l h_vmem=2G",
        "#$ -l h_rt=01:00:00",
        "#$ -o /shared/c/logs/dask-worker-$JOB_ID.log",
    ]
    text = script(SGEJob, numbers=[4, 6])
    assert "#$ -t 1-2" in directives(text)
    assert "c-6" in run(text, SGE_TASK_ID="2")
    assert "-pe" not in text


def test_what_grid_engine_says() -> None:
    assert SGEJob.job_ids("12\n", 1) == ["12"]
    assert SGEJob.job_ids("Your site greets you\n12.1-2:1\n", 2) == ["12.1", "12.2"]
    with pytest.raises(ValueError):
        SGEJob.job_ids("Your job 12", 1)
    job = "<job_list state='x'><JB_job_number>{}</JB_job_number><state>{}</state>{}</job_list>"
    jobs = job.format(1, "r", "<tasks>2</tasks>") + job.format(3, "Eqw", "") + job.format(4, "qw", "<tasks>1</tasks>")
    states = SGEJob.states(f"<?xml version='1.0'?><job_info><queue_info>{jobs}</queue_info></job_info>")
    assert states == {"1.2": "r", "3": "Eqw", "4.1": "qw"}
    assert [job_id for job_id, state in states.items() if SGEJob.is_stuck(state)] == ["3"]
    assert SGEJob.knows_none('denied: job "7" does not exist')


def test_the_description_of_htcondor() -> None:
    text = script(
        HTCondorJob, numbers=[4, 6], account="g", walltime="1:00:00", disk="1GB", job_directives_skip=["stream"]
    )
    lines = text.splitlines()
    assert lines[0] == "executable = /bin/bash"
    assert lines[-1] == "queue 2"
    assert {"request_cpus = 2", "request_memory = 2048MB", "request_disk = 1GB", "accounting_group = g"} <= set(lines)
    assert "periodic_remove = (JobStatus == 2) && ((time() - JobCurrentStartDate) > 3600)" in lines
    assert "output = /shared/c/logs/dask-worker-$(ClusterId).$(ProcId).log" in lines
    assert "stream" not in text
    assert "+Wish = 1" in script(HTCondorJob, job_extra_directives={"+Wish": 1}).splitlines()
    with pytest.raises(ValueError, match="HTCondor has no queues"):
        script(HTCondorJob, queue="all")


def test_what_htcondor_says() -> None:
    assert HTCondorJob.job_ids("12.0 - 12.2\n", 3) == ["12.0", "12.1", "12.2"]
    with pytest.raises(ValueError):
        HTCondorJob.job_ids("Submitting job(s).", 1)
    states = HTCondorJob.states("1 0 2 undefined\n1 1 1 undefined\n1 2 3 undefined\n2 0 5 no such file\n")
    assert states == {"1.0": "2", "1.1": "1", "2.0": "held: no such file"}
    assert [job_id for job_id, state in states.items() if HTCondorJob.is_stuck(state)] == ["2.0"]
    assert HTCondorJob.state_command(["1.0", "1.1", "2.0"])[:3] == ["condor_q", "1", "2"]


def test_the_script_of_pbs() -> None:
    text = script(PBSJob, queue="workq", account="a", walltime="90 minutes", job_extra_directives=["-m n"])
    assert directives(text) == [
        "#PBS -N dask-worker",
        "#PBS -j oe",
        "#PBS -q workq",
        "#PBS -A a",
        "#PBS -l select=1:ncpus=2:mem=2048mb",
        "#PBS -l walltime=01:30:00",
        "#PBS -o /shared/c/logs/",
        "#PBS -m n",
    ]
    text = script(PBSJob, numbers=[4, 6], resource_spec="nodes=1:ppn=2")
    assert {"#PBS -J 1-2", "#PBS -l nodes=1:ppn=2"} <= set(directives(text))
    assert "c-6" in run(text, PBS_ARRAY_INDEX="2")
    assert "c-4" in run(text, PBS_ARRAYID="1")


def test_what_pbs_says() -> None:
    assert PBSJob.job_ids("12.server\n", 1) == ["12"]
    assert PBSJob.job_ids("12[].server.site.org\n", 2) == ["12[1]", "12[2]"]
    for nonsense in ("", "qsub: waiting for job 12.server to start"):
        with pytest.raises(ValueError):
            PBSJob.job_ids(nonsense, 1)
    by_user = """
server:
                                                            Req'd  Req'd   Elap
Job ID          Username Queue    Jobname    SessID NDS TSK Memory Time  S Time
--------------- -------- -------- ---------- ------ --- --- ------ ----- - -----
12[].server     me       workq    dask-work*    --    1   1    2gb 01:00 B   --
12[1].server    me       workq    dask-work*  21034   1   1    2gb 01:00 R 00:02
12[2].server    me       workq    dask-work*    --    1   1    2gb 01:00 X   --
14.server       me       workq    dask-work*    --    1   1    2gb 01:00 Q   --
"""
    plain = """
Job id            Name             User              Time Use S Queue
----------------  ---------------- ----------------  -------- - -----
15.server         dask-worker      me                00:00:01 R workq
16.server         dask-worker      me                00:00:01 C workq
"""
    assert PBSJob.states(by_user) == {"12": "B", "12[1]": "R", "14": "Q"}
    assert PBSJob.states(plain) == {"15": "R"}
    assert PBSJob.log_pattern(None, "12[1]") == "12[[]1].*"  # type: ignore[arg-type]
    assert PBSJob.knows_none("qdel: Unknown Job Id 12.server")
