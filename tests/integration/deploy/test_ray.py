"""``RayCluster`` on a real Ray, in a program of its own: Ray changes the process that it is imported in."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from distributed.testing import poll_for

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("private_places")]

SCRIPT = """
import os, signal, sys, time
import ray
from distributed import Client
from distributed.deploy.ray import RayCluster

def poll(fact):
    deadline = time.monotonic() + 60
    while not fact():
        assert time.monotonic() < deadline, fact
        time.sleep(0.05)

if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, _node_ip_address="127.0.0.1", object_store_memory=80 << 20,
             _temp_dir=sys.argv[1], log_to_driver=False)
    free = lambda: ray.available_resources().get("CPU", 0)
    here = {"host": "127.0.0.1", "scheduler_options": {"dashboard": False}}
    with RayCluster(2, nthreads=1, **here) as cluster, Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        assert client.gather(client.map(lambda x: x + 1, range(20))) == list(range(1, 21))
        assert all(address.startswith("tcp://127.0.0.1:") for address in client.scheduler_info()["workers"])
        poll(lambda: free() == 2)  # Ray counts them
        cluster.scale(1)
        poll(lambda: len(cluster.observed) == 1 and free() == 3)
        member = cluster.workers[0]
        ray.kill(member._program._actor)  # Ray ends it, as when a machine is lost
        poll(lambda: cluster.workers.get(0) not in (None, member))
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3
        cluster.scale(cores=3)
        client.wait_for_workers(3, timeout=60)
    poll(lambda: free() == 4)
    try:
        RayCluster(1, ray_options={"no_such_option": 1}, **here)
    except RuntimeError as e:
        print("refused:", e, flush=True)
    print("pids", os.getpid(), flush=True)
    ray.shutdown()
"""


def test_workers_are_held_by_actors(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs the package ray (pip install ray)")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    folder = tmp_path_factory.mktemp("r")
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, str(script), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "refused: Ray does not start an actor: " in done.stdout, done.stdout

    def of_ours() -> list[str]:
        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            words = process.info["cmdline"] or []
            if "--attached" in words and str(folder) in str(process.info["environ"]):
                found.append(" ".join(words))
        return found

    poll_for(lambda: not of_ours(), timeout=20)
