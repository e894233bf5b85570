"""S63, S65, S83, S84: interfaces, one command everywhere, work anywhere, many workers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed import Client, LocalCluster, get_worker
from distributed.testing import inc, poll_for
from tests.engines.sshd import SSHHosts, require_sshd
from tests.integration.cli.test_programs import SCHEDULER, WORKER, running


@pytest.fixture(autouse=True)
def private(private_places: None) -> None:
    """All tests of this file."""


# In a network of its own: two networks of this machine, one fast, one slow, and loopback.
NETWORK = """
ip link set lo up
for n in 1 2; do
    ip link add net$n type veth peer name far$n && ip link set far$n up || exit 9
    ip addr add 10.99.$n.1/24 dev net$n && ip link set net$n up || exit 9
done
exec "$@"
"""
SEVERAL_INTERFACES = """
import subprocess, sys, time
from distributed import Client
from tests.integration.cli.test_programs import SCHEDULER, WORKER, running
import psutil

def listening(process):
    return {c.laddr.ip for p in [process, *process.children(recursive=True)]
            for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN}

with running([*SCHEDULER, "--interface", "net2", "--port", "0"]) as scheduler:
    address = scheduler.line(r"Start scheduler at: +(\\S+)")
    assert address.startswith("tcp://10.99.2.1:"), address
    with running([*WORKER, address, "--interface", "net2", "--nthreads", "1"]) as worker:
        worker.line(r"Registered to")
        with Client(address) as client:
            (at,) = client.scheduler_info()["workers"]
            assert at.startswith("tcp://10.99.2.1:"), at
            assert client.submit(sum, [1, 2]).result(timeout=20) == 3
        for program in (scheduler, worker):
            ips = listening(psutil.Process(program.process.pid))
            assert ips <= {"10.99.2.1", "127.0.0.1"} and "10.99.2.1" in ips, ips
print("fast network only")
"""


def test_s63_interface_picks_the_network() -> None:
    command = ["unshare", "-n", "sh", "-c", NETWORK, "sh"]
    if shutil.which("unshare") is None or shutil.which("ip") is None or os.geteuid():
        pytest.skip("needs root, unshare and ip, for a machine with two networks")
    if subprocess.run([*command, "true"], capture_output=True, timeout=20).returncode:
        pytest.skip("this kernel makes no network of its own with interfaces")
    done = subprocess.run(
        [*command, sys.executable, "-c", SEVERAL_INTERFACES], capture_output=True, text=True, timeout=90
    )
    assert done.stdout.strip() == "fast network only", done.stderr


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHHosts]:
    require_sshd()
    found = SSHHosts(tmp_path_factory.mktemp("ssh"), ["127.0.0.1", "127.0.0.2"])
    yield found
    found.close()


@pytest.mark.engine
def test_s65_the_same_command_typed_on_all_hosts_at_once(hosts: SSHHosts, tmp_path: Path) -> None:
    """Panes of tmux that are typed into together, each logged in to another host, as tmux-cssh does it."""
    if shutil.which("tmux") is None or shutil.which("ssh") is None:
        pytest.skip("needs tmux and ssh (apt-get install tmux openssh-client)")
    file = tmp_path / "scheduler.json"
    tmux = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]
    login = ["ssh", "-tt", "-F", "/dev/null", "-i", str(hosts.folder / "id"), "-p", str(hosts.port), "-o"]
    login += [f"UserKnownHostsFile={hosts.folder}/home/.ssh/known_hosts", "-o", "StrictHostKeyChecking=yes"]
    with running([*SCHEDULER, "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]) as scheduler:
        scheduler.line(r"Start scheduler at")
        first, *others = [" ".join([*login, host, "sh"]) for host in hosts.hosts]
        subprocess.run([*tmux, "new-session", "-d", "-x", "200", "-y", "50", first], check=True, timeout=20)
        try:
            for other in others:
                subprocess.run([*tmux, "split-window", other], check=True, timeout=20)
            subprocess.run([*tmux, "set-window-option", "synchronize-panes", "on"], check=True, timeout=20)
            worker = f"exec {hosts.python} -m distributed.cli.dask_worker --no-dashboard --nthreads 1"
            subprocess.run([*tmux, "send-keys", f"{worker} --scheduler-file {file}", "Enter"], check=True, timeout=20)
            with Client(scheduler_file=str(file)) as client:
                client.wait_for_workers(len(hosts.hosts), timeout=60)
                assert client.gather(client.map(inc, range(10))) == list(range(1, 11))
        finally:
            subprocess.run([*tmux, "kill-server"], check=False, timeout=20)


def test_s83_s84_any_function_on_any_of_a_hundred_workers_unless_told_otherwise() -> None:
    """Of threads, so that this machine can hold a hundred; Windows is not run."""
    quiet = {"dashboard_address": None, "processes": False, "threads_per_worker": 1}
    with LocalCluster(100, **quiet) as cluster, Client(cluster) as client:
        client.wait_for_workers(100, timeout=60)

        def where(i: int) -> str:
            time.sleep(0.01)
            return str(get_worker().address)

        ran = Counter(client.gather(client.map(where, range(1000), pure=False)))
        assert len(ran) == 100
        chosen = sorted(ran)[:2]
        told = client.map(where, range(20), workers=chosen, pure=False)
        assert set(client.gather(told)) <= set(chosen)


def test_s65_a_worker_needs_no_name_or_port_of_its_own() -> None:
    with running([*SCHEDULER, "--host", "127.0.0.1", "--port", "0"]) as scheduler:
        address = scheduler.line(r"Start scheduler at: +(\S+)")
        command = [*WORKER, address, "--no-nanny", "--nthreads", "1"]
        with running(command) as one, running(command) as two:
            assert one.line(r"Start worker at: +(\S+)") != two.line(r"Start worker at: +(\S+)")
            with Client(address) as client:
                poll_for(lambda: len(client.scheduler_info()["workers"]) == 2, timeout=30)
    assert re.match("tcp://", address)
