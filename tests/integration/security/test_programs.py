"""Scheduler, nanny and worker as programs, as they are by default: every socket that they listen at, and whether the
secret shows anywhere."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from distributed import Client, LocalCluster
from distributed.comm import secrets
from distributed.comm.keys import Secret
from distributed.testing import inc
from tests.integration.cli.test_programs import Program, running

CLI = [sys.executable, "-m"]
LOUD = {"DASK_LOGGING__DISTRIBUTED": "debug", "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "debug"}


@dataclass
class Place:
    client: Client
    scheduler: Program
    worker: Program

    def processes(self) -> dict[str, psutil.Process]:
        """By what they are."""
        nanny = psutil.Process(self.worker.process.pid)
        (pid,) = self.client.run(os.getpid).values()
        return {"scheduler": psutil.Process(self.scheduler.process.pid), "nanny": nanny, "worker": psutil.Process(pid)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(secrets.ENV_STORE, str(tmp_path_factory.mktemp("home") / "clusters"))
        env = {**os.environ, **LOUD}
        options = ["--port", "0", "--dashboard-address", ":0"]
        with running([*CLI, "distributed.cli.dask_scheduler", *options], env=env) as scheduler:
            address = scheduler.line(r"Start scheduler at: +(\S+)", timeout=60)
            with running([*CLI, "distributed.cli.dask_worker", address, "--nthreads", "1"], env=env) as worker:
                worker.line(r"Registered to: +(\S+)", timeout=60)
                with Client(address) as client:
                    assert client.submit(inc, 1).result(timeout=20) == 2
                    yield Place(client, scheduler, worker)


def listening_unix() -> dict[int, str]:
    """Paths of all listening unix sockets of this machine, by inode; a name that is no path begins with ``@``."""
    found = {}
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        _, _, _, flags, _, _, inode, *path = line.split(maxsplit=7)
        if int(flags, 16) & 0x10000:
            found[int(inode)] = path[0] if path else ""
    return found


def sockets_of(process: psutil.Process) -> tuple[set[tuple[str, int]], set[str]]:
    """Where a process listens: (host, port) of everything of the internet, and paths."""
    inet = {
        (found.laddr.ip, found.laddr.port)
        for found in process.net_connections("inet")
        if found.status == psutil.CONN_LISTEN or found.type != socket.SOCK_STREAM
    }
    everywhere = listening_unix()
    paths = set()
    for fd in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(fd)
            if target.startswith("socket:[") and (inode := int(target[8:-1])) in everywhere:
                paths.add(everywhere[inode])
    return inet, paths


def private(paths: set[str]) -> bool:
    """Whether each lies in a directory of this user alone."""
    for path in paths:
        info = os.lstat(Path(path).parent)
        if not stat.S_ISDIR(info.st_mode) or stat.S_IMODE(info.st_mode) != 0o700 or info.st_uid != os.getuid():
            return False
    return True


def test_c4_20_where_programs_listen(place: Place) -> None:
    """As docs/SECURITY.md lists: nothing more, nothing less."""
    processes = place.processes()
    info = place.client.scheduler_info()
    ((address, worker),) = info["workers"].items()
    port = int(place.client.scheduler.address.rpartition(":")[2])
    tcp, paths = sockets_of(processes["scheduler"])
    assert tcp == {("0.0.0.0", port), ("127.0.0.1", info["services"]["dashboard"])}
    assert len(paths) == 1 and private(paths)
    host, _, port_of_worker = address.removeprefix("tcp://").rpartition(":")
    tcp, paths = sockets_of(processes["worker"])
    assert tcp == {(host, int(port_of_worker)), ("127.0.0.1", worker["services"]["dashboard"])}
    assert len(paths) == 1 and private(paths)
    host, _, port_of_nanny = worker["nanny"].removeprefix("tcp://").rpartition(":")
    tcp, paths = sockets_of(processes["nanny"])
    assert tcp == {(host, int(port_of_nanny))}
    assert len(paths) == 1 and private(paths)
    family = {p.pid for top in ("scheduler", "nanny") for p in processes[top].children(recursive=True)}
    for pid in family - {processes["worker"].pid}:
        assert sockets_of(psutil.Process(pid)) == (set(), set())


def test_c4_20_where_a_local_cluster_listens(private_places: None) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        ((address, pid),) = client.run(os.getpid).items()
        tcp, paths = sockets_of(psutil.Process(pid))
        assert tcp == {("127.0.0.1", int(address.rpartition(":")[2]))}
        assert len(paths) == 1 and private(paths)
        tcp, paths = sockets_of(psutil.Process())
        assert {host for host, _ in tcp} == {"127.0.0.1"} and private({p for p in paths if p.startswith("/")})
        ports = {cluster.scheduler.port, cluster.scheduler.http_server.port, cluster.workers[0].port}
        assert ports <= {port for _, port in tcp}


def log_everything() -> None:
    logging.getLogger("distributed").setLevel(logging.DEBUG)


def shapes(secret: Secret) -> list[str]:
    """The secret, and all keys that are tokens by themselves, as they might be written."""
    texts = [secret.reveal()[5:], secret.limited_to("worker").reveal()[-64:]]
    texts += [secret.key(name).hex() for name in ("observe", "metrics", "client", "client>scheduler")]
    return [*texts, *[bytes.fromhex(text).decode("latin1") for text in texts]]


def test_c4_18_the_secret_in_programs(place: Place, tmp_path: Path) -> None:
    client = place.client
    secret = secrets.lookup(client.scheduler.address)
    assert secret is not None and secret.id == client.session.link.connection.comm.secret_id
    processes = place.processes()
    client.run_on_scheduler(log_everything)
    client.run(log_everything)
    port = client.scheduler_info()["services"]["dashboard"]
    bearer = {"Authorization": f"Bearer {client.web_token()}"}

    def page(path: str) -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=bearer)
        return urllib.request.urlopen(request, timeout=10).read().decode("latin1")

    with pytest.raises(ZeroDivisionError) as caught:
        client.submit(lambda: 1 / 0, pure=False).result(timeout=10)
    client.dump_cluster_state(str(tmp_path / "dump"), format="yaml")
    shown = {
        "argv": str([process.cmdline() for process in processes.values()]),
        "environment": str([process.environ() for process in processes.values()]),
        "environment of a task": str(client.submit(lambda: dict(os.environ), pure=False).result(timeout=10)),
        "globals of a task": str(client.submit(lambda: dict(__import__("dask").config.config), pure=False).result()),
        "dump": "".join(path.read_bytes().decode("latin1") for path in tmp_path.iterdir()),
        "logs": f"{client.get_scheduler_logs()} {client.get_worker_logs()} {client.get_worker_logs(nanny=True)}",
        "events": str(client.get_events()),
        "traceback": str(caught.value) + str(caught.traceback),
        **{path: page(path) for path in (
            "/status", "/json/identity.json", "/json/status.json", "/json/counts.json", "/metrics",
            "/info/main/workers.html", "/info/main/logs.html", "/sitemap.json", "/json/index.html",
        )},
    }  # fmt: skip
    place.client.close()
    for name, program in (("log of the worker", place.worker), ("log of the scheduler", place.scheduler)):
        shown[name] = program.end()[1]
    assert [name for name, text in shown.items() if not text] == []
    assert [name for name, text in shown.items() for shape in shapes(secret) if shape in text] == []
