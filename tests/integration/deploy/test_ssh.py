"""``SSHCluster`` and ``dask-ssh`` over real SSH servers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from distributed import Client, SSHCluster
from distributed.testing import inc, poll_for
from tests.engines.sshd import SSHHosts, require_sshd
from tests.integration.cli.test_programs import Program, running

pytestmark = pytest.mark.engine
HOSTS = ["127.0.0.1", "127.0.0.2"]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHHosts]:
    require_sshd()
    found = SSHHosts(tmp_path_factory.mktemp("ssh"), HOSTS)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(autouse=True)
def private(private_places: None) -> None:
    """All tests of this file."""


def cluster_on(hosts: SSHHosts, **kwargs: Any) -> SSHCluster:
    return SSHCluster(
        [HOSTS[0], *HOSTS],
        connect_options=hosts.connect_options,
        remote_python=str(hosts.python),
        scheduler_options={"port": 0, "dashboard_address": ":0"},
        worker_options=kwargs.pop("worker_options", {"nthreads": 1}),
        **kwargs,
    )


def dask_ssh(hosts: SSHHosts, *args: str) -> list[str]:
    options = ["--ssh-port", str(hosts.port), "--ssh-private-key", str(hosts.folder / "id"), "--remote-python",
               str(hosts.python), "--scheduler-port", "0", "--dashboard-address", "127.0.0.1:0"]  # fmt: skip
    return [
        sys.executable,
        "-c",
        "from distributed.cli.dask_ssh import main; main(prog_name='dcluster')",
        *options,
        *args,
    ]


def environment(hosts: SSHHosts) -> dict[str, str]:
    return {**os.environ, "HOME": str(hosts.folder / "home")}


def our_programs(hosts: SSHHosts) -> list[psutil.Process]:
    found = []
    for host in HOSTS:
        for process in hosts.processes(host):
            with contextlib.suppress(psutil.Error):
                if any("distributed" in word for word in process.cmdline()):
                    found.append(process)
    return found


def test_a_cluster_of_two_hosts_and_no_trace_of_its_secret(hosts: SSHHosts) -> None:
    lines: list[tuple[str, str]] = []
    with cluster_on(hosts, on_line=lambda host, line: lines.append((host, line))) as cluster:
        with Client(cluster) as client:
            client.wait_for_workers(2, timeout=30)
            assert client.gather(client.map(inc, range(10))) == list(range(1, 11))
            where = {address.split("://")[1].rpartition(":")[0] for address in client.scheduler_info()["workers"]}
            assert where <= set(HOSTS)
            seen = " ".join(str(value) for value in client.run(lambda: (os.environ, sys.argv)).values())
        started = our_programs(hosts)
        secret = cluster.scheduler.secret.reveal()
        assert len(started) >= 3
        assert not any(secret in " ".join(process.cmdline()) for process in started)
        assert secret not in seen
        assert secret not in repr(cluster.worker_spec) + repr(cluster.scheduler_spec) + repr(lines)
        assert {host for host, _ in lines} == set(HOSTS)
    poll_for(lambda: not our_programs(hosts), timeout=20)
    assert not any(process.is_running() and process.status() != "zombie" for process in started)


def test_several_workers_on_a_host_and_a_program_that_vanishes(hosts: SSHHosts) -> None:
    """sshd lets programs live on when their connection ends: ours notice."""
    cluster = cluster_on(hosts, worker_options=[{"nthreads": 1, "n_workers": 2}, {"nthreads": 1}])
    try:
        cluster.wait_for_workers(3, timeout=30)
        names = {str(worker["name"]) for worker in cluster.scheduler_info["workers"].values()}
        assert names == {"0-0", "0-1", "1"}
        for member in [*cluster.workers.values(), cluster.scheduler]:
            member._program._connection.abort()
        poll_for(lambda: not our_programs(hosts), timeout=30)
    finally:
        cluster.close(timeout=30)


def test_a_host_dies(hosts: SSHHosts) -> None:
    with cluster_on(hosts) as cluster, Client(cluster) as client:
        client.wait_for_workers(2, timeout=30)
        hosts.kill(HOSTS[1])
        try:
            futures = client.map(inc, range(100))
            assert client.gather(futures) == list(range(1, 101))
            poll_for(lambda: len(client.scheduler_info()["workers"]) == 1, timeout=30)
        finally:
            hosts.start(HOSTS[1])


def test_what_can_go_wrong_names_the_host(hosts: SSHHosts) -> None:
    options = hosts.connect_options
    for changed, text in (
        ({"port": 1}, "127.0.0.1: cannot connect over SSH"),
        ({"known_hosts": ([], [], [])}, "127.0.0.1: its host key is not known"),
        ({"client_keys": [str(hosts.folder / "hostkey")]}, "127.0.0.1: cannot connect over SSH: Permission denied"),
    ):
        with pytest.raises(RuntimeError, match=text):
            SSHCluster(HOSTS, connect_options={**options, **changed}, remote_python=str(hosts.python))
    with pytest.raises(RuntimeError, match=r"127.0.0.1: the scheduler did not start: .*nowhere"):
        SSHCluster(HOSTS, connect_options=options, remote_python="/nowhere/python")
    with pytest.raises(RuntimeError, match=r"127.0.0.1: the scheduler did not start: .*frobnicate"):
        SSHCluster(HOSTS, options, remote_python=str(hosts.python), scheduler_options={"frobnicate": 1})
    with pytest.raises(ValueError, match="at least one for workers"):
        SSHCluster(["127.0.0.1"])
    with pytest.raises(ValueError, match="connect_options= has 1 items for 2 machines"):
        SSHCluster(HOSTS, connect_options=[options])


def said(program: Program, *words: str) -> None:
    """Each word appears in a line of standard output, in any order."""
    assert program.process.stdout is not None
    missing = set(words)
    for line in program.process.stdout:
        program.lines.append(line)
        missing -= {word for word in missing if all(part in line for part in word.split("|"))}
        if not missing:
            return
    raise AssertionError(f"{missing} not in {program.lines} {program.end()}")


def test_s47_s48_s49_dask_ssh_by_names_and_ctrl_c(hosts: SSHHosts, tmp_path: Path) -> None:
    args = dask_ssh(hosts, *HOSTS, "--nthreads", "1", "--log-directory", str(tmp_path / "logs"))
    with running(args, env=environment(hosts)) as program:
        address = program.line(r"Start scheduler at: +(\S+)", timeout=60)
        said(program, *[f"[{host}]|Registered with Scheduler" for host in HOSTS])
        with Client(address, timeout="10s") as client:
            client.wait_for_workers(2, timeout=20)
            assert client.submit(inc, 1).result(timeout=10) == 2
        code, text = program.end(signal.SIGINT, timeout=40)
        assert code == 128 + signal.SIGINT, text
        assert "Traceback" not in text
        poll_for(lambda: not our_programs(hosts), timeout=20)
    for host in HOSTS:
        assert "Registered" in (tmp_path / "logs" / f"dask-worker-{host}.log").read_text()


def test_s50_hostfile_and_a_scheduler_elsewhere(hosts: SSHHosts, tmp_path: Path) -> None:
    file = tmp_path / "hostfile.txt"
    file.write_text(f"# machines\n{HOSTS[1]}\n\n")
    options = ["--hostfile", str(file), "--scheduler", HOSTS[0], "--nworkers", "2", "--nthreads", "1", "--nohost"]
    with running(dask_ssh(hosts, *options), env=environment(hosts)) as program:
        address = program.line(r"Start scheduler at: +(\S+)", timeout=60)
        assert address.startswith("tcp://127.0.0.1:")
        with Client(address, timeout="10s") as client:
            client.wait_for_workers(2, timeout=30)


def test_s51_without_asyncssh_a_clear_message(tmp_path: Path) -> None:
    (tmp_path / "asyncssh.py").write_text("raise ImportError('no')")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "distributed.cli.dask_ssh", "127.0.0.1"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr == "Error: SSHCluster and dask-ssh need the package asyncssh: pip install asyncssh\n"


def test_dask_ssh_without_hosts_helps_and_a_dead_host_is_named(hosts: SSHHosts) -> None:
    done = subprocess.run(dask_ssh(hosts), capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert "--hostfile" in done.stdout
    with running(dask_ssh(hosts, HOSTS[0], "127.0.0.3"), env=environment(hosts)) as program:
        code, text = program.end_by_itself(timeout=60)
    assert code == 1
    assert "Error: 127.0.0.3: cannot connect over SSH" in text
