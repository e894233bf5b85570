"""A worker's link breaks for a while: inside the grace each task runs once, beyond it the worker is fenced."""

from __future__ import annotations

import pytest

from distributed.simulation import script as acts
from distributed.simulation.episode import Episode
from distributed.simulation.script import Script

N = 12


def cut_script(for_s: float, grace_s: float, kept: tuple[float, float], at: float, nanny: bool = True) -> Script:
    """Twelve tasks of a second on two workers, and one that needs them; the link of one worker breaks."""
    names = [f"x-{i}" for i in range(N)]
    tasks = [*[acts.TaskPlan(name, duration_s=1.0) for name in names], acts.TaskPlan("y", needs=tuple(names))]
    script: list[acts.Act] = [
        *[acts.StartWorker(0.0, f"w{i}", 2, "10.0.0.1", {}, nanny) for i in range(2)],
        acts.Submit(0.1, "c", tuple(tasks)),
        acts.CutLink(at, "w0", *kept, for_s),
        acts.PauseWorker(at + 12.0, "w1", 0.001),  # peace, which mends links, comes no sooner
    ]
    return Script(1, ("c",), script, {"worker_grace_s": grace_s, **SILENT}, heartbeat_s=0.25)


SILENT = dict.fromkeys(("suspect_s", "lost_s", "lost_alone_s", "worker_ttl_s"))


@pytest.mark.parametrize("kept", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
def test_inside_the_grace_each_task_runs_once(kept):
    for at in (0.101, 0.1103, 1.1015, 2.2):
        for for_s in (0.0, 4.0):
            cluster = Episode(cut_script(for_s, 30.0, kept, at), thorough=True).run().cluster
            counts = cluster.sim.counts
            assert counts["WorkerRemoved"] == 0 and counts["WorkerBack"] == 1, (at, for_s)
            assert set(cluster.runs.n_runs.values()) == {1} and len(cluster.runs.n_runs) == N + 1, (at, for_s)


@pytest.mark.parametrize("nanny", [True, False])
def test_beyond_the_grace_it_is_fenced(nanny):
    for at in (0.6, 1.1015):
        cluster = Episode(cut_script(2.5, 1.0, (0.0, 0.0), at, nanny), thorough=True).run().cluster
        counts = cluster.sim.counts
        assert counts["WorkerRemoved"] == 1 and counts["WorkerBack"] == 0
        assert counts["fenced"] == 1 and max(cluster.runs.n_runs.values()) == 2, "what it had runs again"
