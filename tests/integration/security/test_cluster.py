"""A cluster of processes as it is by default: what its members may do, what of the secret shows, where it listens."""

from __future__ import annotations

import io
import logging
import os
import pickle
import socket
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from distributed import Client, LocalCluster, WorkerPlugin
from distributed.base.errors import HandshakeRefused
from distributed.comm import secrets
from distributed.comm.keys import Secret
from distributed.rpc.pool import connect
from distributed.testing import inc, poll_for


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[LocalCluster, Client]]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        yield cluster, client


MASTERS_ONLY = ("run_function", "register_scheduler_plugin", "unregister_scheduler_plugin", "rotate_secret")


def ask(client: Client, keys: Secret, role: str, op: str, **kwargs: Any) -> Any:
    """Ask the scheduler over a socket, as whoever has these keys."""

    async def go() -> Any:
        address = client.scheduler.address
        connection = await connect(address, 5, role=role, secret=keys, shortcuts=False)
        try:
            return await connection.call(op, timeout=5, **kwargs)
        finally:
            await connection.close(1)

    return client.sync(go)


def test_a_worker_has_the_keys_of_a_worker(place: tuple[LocalCluster, Client]) -> None:
    cluster, client = place
    revealed = client.run(lambda dask_worker: dask_worker.secret.reveal())
    keys = {Secret.from_text(text) for text in revealed.values()}
    assert keys == {cluster.scheduler.secret.limited_to("worker")}
    found = client.run(lambda: {s.role for s in secrets._known.values()})
    assert set(map(frozenset, found.values())) == {frozenset({"worker"})}


@pytest.mark.parametrize("role", ["nanny", "scheduler"])
def test_a_worker_is_neither_nanny_nor_scheduler(place: tuple[LocalCluster, Client], role: str) -> None:
    cluster, client = place
    with pytest.raises(HandshakeRefused, match="keys of a worker do not reach"):
        ask(client, cluster.scheduler.secret.limited_to("worker"), role, "identity")


@pytest.mark.parametrize("role", ["worker", "client"])
def test_a_worker_has_no_code_run_in_the_scheduler(
    place: tuple[LocalCluster, Client], role: str, tmp_path: Any
) -> None:
    """As a worker, and as the client that a task makes."""
    cluster, client = place
    keys = cluster.scheduler.secret.limited_to("worker")
    marker = tmp_path / "marker"
    bomb = pickle.dumps(Bomb(str(marker)))
    for op in MASTERS_ONLY:
        with pytest.raises(PermissionError, match=f"may not ask a scheduler for '{op}'"):
            ask(client, keys, role, op, function=bomb, plugin=bomb, name="x")
    assert not marker.exists()
    assert ask(client, keys, role, "identity")["type"] == "Scheduler"
    refused = [event for _, event in client.get_events("audit") if event["outcome"] == "refused"]
    told = {"worker": "worker", "client": "task"}[role]
    assert [event["action"] for event in refused if event["role"] == told] == list(MASTERS_ONLY)
    assert all(event["peer"].startswith("tcp://127.0.0.1:") for event in refused)


def test_who_had_code_run_is_noted(place: tuple[LocalCluster, Client]) -> None:
    _, client = place
    client.run_on_scheduler(os.getpid)
    client.register_plugin(Quiet(), name="quiet")
    client.unregister_worker_plugin("quiet")
    done = [event for _, event in client.get_events("audit") if event["outcome"] == "done"]
    assert [event["action"] for event in done[-3:]] == [
        "run_function", "register_worker_plugin", "unregister_worker_plugin"
    ]  # fmt: skip
    assert {(event["role"], event["client"]) for event in done[-3:]} == {("client", client.id)}


class Quiet(WorkerPlugin):
    pass


def test_pickles_of_a_worker_stay_closed_in_the_scheduler(place: tuple[LocalCluster, Client], tmp_path: Any) -> None:
    cluster, client = place
    keys = cluster.scheduler.secret.limited_to("worker")
    marker = tmp_path / "marker"
    bomb = Bomb(str(marker))
    for op, kwargs in (
        ("set_metadata", {"keys": ["a"], "value": bomb}),
        ("log_event", {"topic": "t", "msg": bomb}),
        ("publish_put", {"name": bomb, "keys": [], "data": bomb}),
        ("who_has", {"keys": [bomb]}),
        ("story", {"keys_or_stimuli": [bomb]}),
        ("no_such_op", {"x": bomb}),
    ):
        try:
            ask(client, keys, "worker", op, **kwargs)
        except Exception as error:
            assert not isinstance(error, TimeoutError), op
    assert not marker.exists()
    assert client.submit(inc, 1, pure=False).result() == 2


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


def test_a_task_uses_the_cluster_as_a_client(place: tuple[LocalCluster, Client]) -> None:
    _, client = place

    def within() -> Any:
        from distributed import get_client

        inner = get_client()
        return inner.submit(inc, 41, pure=False).result()

    assert client.submit(within, pure=False).result() == 42


def test_the_secret_does_not_show(place: tuple[LocalCluster, Client], tmp_path: Any) -> None:
    cluster, client = place
    secret = cluster.scheduler.secret
    needle = secret.reveal()[5:]
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        client.submit(inc, 7, pure=False).result()
        with pytest.raises(HandshakeRefused) as caught:
            ask(client, Secret.new(), "client", "identity")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    client.dump_cluster_state(str(tmp_path / "dump"), format="yaml")
    dump = "".join(path.read_bytes().decode("latin1") for path in tmp_path.iterdir())
    assert len(dump) > 1000
    workers = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
    shown = {
        "argv": str([p.cmdline() for p in [psutil.Process(), *workers]]),
        "environment at the start": str([p.environ() for p in workers]),
        "environment of a task": str(client.submit(lambda: dict(os.environ), pure=False).result()),
        "settings of a task": str(client.submit(lambda: __import__("dask").config.config, pure=False).result()),
        "repr": repr([secret, cluster, client, cluster.scheduler, cluster.workers]),
        "html": cluster._repr_html_() + client._repr_html_(),
        "error": str(caught.value),
        "log": log.getvalue(),
        "logs": str(client.get_scheduler_logs()) + str(client.get_worker_logs()),
        "dump": dump,
        "identity": str(client.scheduler_info()),
    }
    assert all(text for where, text in shown.items() if where != "log")
    assert [where for where, text in shown.items() if needle in text or needle[:32] in text] == []


def test_a_given_token_does_not_reach_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    import dask

    token = "quite-a-long-token-0123456789"
    monkeypatch.setenv(secrets.ENV_TOKEN, token)
    with dask.config.set({"distributed.auth.token": token}):
        with LocalCluster(n_workers=1, dashboard_address=None) as cluster, Client(cluster) as client:
            seen = client.submit(lambda: f"{dict(os.environ)} {__import__('dask').config.config}").result()
            (worker,) = client.run(os.getpid).values()
            assert token not in seen and token not in str(psutil.Process(worker).environ())
            with pytest.raises(ValueError, match="given by the environment"):
                cluster.rotate_secret()


def test_where_a_local_cluster_listens(place: tuple[LocalCluster, Client]) -> None:
    """As docs/SECURITY.md lists: one socket of each scheduler, worker and nanny, and pages; all on loopback."""
    cluster, client = place
    pids = [os.getpid(), *client.run(os.getpid).values()]
    expected = {
        os.getpid(): {cluster.scheduler.port, cluster.scheduler.services["dashboard"].port}
        | {nanny.port for nanny in cluster.workers.values()},
    }
    for address, info in client.scheduler_info(n_workers=-1)["workers"].items():
        pid = client.run(os.getpid, workers=[address])[address]
        expected[pid] = {int(address.rpartition(":")[2]), *info["services"].values()}
    for pid in pids:
        sockets = psutil.Process(pid).net_connections("inet")
        found = {s.laddr for s in sockets if s.status == psutil.CONN_LISTEN or s.type != socket.SOCK_STREAM}
        assert {a.ip for a in found} == {"127.0.0.1"}
        assert {a.port for a in found} >= expected[pid]
        if pid != os.getpid():
            assert {a.port for a in found} == expected[pid]


def test_rotation() -> None:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        old = cluster.scheduler.secret
        address = cluster.scheduler_address
        with Client(cluster) as client, Client(address, set_as_default=False) as other:
            value = other.scatter([1, 2, 3])
            cluster.rotate_secret("30s")
            new = cluster.scheduler.secret
            assert new.id != old.id
            # While both are good, newcomers have either.
            assert ask(client, old, "client", "identity")["type"] == "Scheduler"
            assert ask(client, new, "client", "identity")["type"] == "Scheduler"
            held = client.run(lambda dask_worker: dask_worker.secret.reveal())
            assert {Secret.from_text(text) for text in held.values()} == {new.limited_to("worker")}
            cluster.rotate_secret("0s")
            last = cluster.scheduler.secret
            for stale in (old, new):
                poll_for(lambda stale=stale: refused(client, stale), timeout=5)
            assert ask(client, last, "client", "identity")["type"] == "Scheduler"
            # Nobody was lost: the workers kept their values, and clients of this user find the new secret.
            assert other.gather(value) == [1, 2, 3]
            assert client.submit(inc, 1, pure=False).result(timeout=10) == 2
            assert other.submit(inc, 2, pure=False).result(timeout=10) == 3


def refused(client: Client, keys: Secret) -> bool:
    try:
        ask(client, keys, "client", "identity")
    except HandshakeRefused:
        return True
    return False
