"""Interpreters that are started ahead of their nannies: taken when they fit, and none is left."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from distributed import Client, LocalCluster
from distributed.nanny import environment, spawning


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_what_nobody_takes_is_ended() -> None:
    with spawning.ahead(2):
        spares = list(spawning._spares)
        assert len(spares) == 2 and not any(gone(spare.popen.pid) for spare in spares)
    assert all(gone(spare.popen.pid) for spare in spares)
    assert not spawning._spares
    assert all(spare.line.fileno() == -1 for spare in spares)


def test_one_is_taken_only_with_the_environment_that_it_has() -> None:
    variables = environment.expected_variables()
    with spawning.ahead(1):
        other = spawning.take({**variables, "OWN": "1"})
        (spare,) = spawning._spares
        taken = spawning.take(variables)
        assert taken is spare and other is not spare and not spawning._spares
    assert not gone(taken.popen.pid)
    for spawned in (taken, other):
        spawned.end()
        assert gone(spawned.popen.pid)


def test_one_that_has_ended_is_not_taken() -> None:
    with spawning.ahead(1):
        (spare,) = spawning._spares
        spare.popen.kill()
        spare.popen.wait()
        taken = spawning.take(spare.variables)
        assert taken is not spare
        taken.end()


def test_ends_when_its_starter_hangs_up() -> None:
    spawned = spawning.spawn(environment.expected_variables())
    spawned.line.close()
    assert spawned.popen.wait(60) == 1
    spawned.end()


def test_a_cluster_takes_those_that_it_has_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[int] = []
    spawn = spawning.spawn

    def noted(variables: dict[str, str]) -> spawning.Spawned:
        spawned = spawn(variables)
        started.append(spawned.popen.pid)
        return spawned

    monkeypatch.setattr(spawning, "spawn", noted)
    options = {"threads_per_worker": 1, "dashboard_address": None, "local_directory": str(tmp_path)}
    with LocalCluster(n_workers=2, **options) as cluster, Client(cluster) as client:
        assert sorted(client.run(os.getpid).values()) == sorted(started)
        assert len(started) == 2
    deadline = time.monotonic() + 30
    while not all(map(gone, started)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
