"""The classes of dask-jobqueue, unchanged, on real batch systems; dask-mpi's own package is in ``make ecosystem``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import distributed
from distributed import Client
from distributed.comm import secrets
from distributed.testing import inc, poll_for
from tests.engines.condor import HTCondor, require_condor
from tests.engines.sge import GridEngine, require_sge
from tests.engines.slurm import Slurm, require_slurm

pytestmark = pytest.mark.engine

SOURCE = Path(distributed.__file__).parents[1]
SYSTEMS = {
    "SLURMCluster": (require_slurm, Slurm, {}),
    "SGECluster": (require_sge, GridEngine, {}),
    "HTCondorCluster": (require_condor, HTCondor, {"disk": "10 MB"}),
}


@pytest.fixture(scope="module", params=list(SYSTEMS))
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    pytest.importorskip("dask_jobqueue", reason="needs the package dask-jobqueue (pip install dask-jobqueue)")
    require, engine_class, _ = SYSTEMS[request.param]
    require()
    engine = engine_class(tmp_path_factory.mktemp(request.param[:3]))
    yield request.param, engine
    engine.close()


def test_s86_scale_adapt_and_close(
    running: tuple[str, Any], private_places: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """S86: resource managers are left to classes of other projects. Their workers find the secret in the user's store,
    which all machines must see."""
    import dask_jobqueue

    name, engine = running
    for key, value in engine.environment.items():
        monkeypatch.setenv(key, value)
    exported = {"PYTHONPATH": str(SOURCE), secrets.ENV_STORE: os.environ[secrets.ENV_STORE]}
    keywords = {
        "cores": 1,
        "memory": "500 MB",
        "interface": "lo",
        "log_directory": str(tmp_path),
        "job_script_prologue": [f"export {key}={value}" for key, value in exported.items()],
        "scheduler_options": {"dashboard_address": ":0"},
        **SYSTEMS[name][2],
    }
    with getattr(dask_jobqueue, name)(**keywords) as cluster, Client(cluster) as client:
        cluster.scale(jobs=2)
        client.wait_for_workers(2, timeout=90)
        assert client.gather(client.map(inc, range(20))) == list(range(1, 21))
        assert len(engine.jobs()) == 2
        cluster.scale(1)
        poll_for(lambda: len(engine.jobs()) == 1, timeout=60)
        cluster.adapt(minimum=0, maximum=2, interval="200ms")
        poll_for(lambda: not engine.jobs(), timeout=60)
        assert client.submit(inc, 1).result(timeout=90) == 2
    poll_for(lambda: not engine.jobs(), timeout=60)
