"""``KubeCluster`` against a stand-in for Kubernetes' API, whose containers are processes; no Kubernetes runs here."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed import Client
from distributed.base.status import Status
from distributed.deploy.kubernetes import KubeCluster
from distributed.testing import inc, poll_for
from tests.engines.fake_kubernetes import FakeKubernetes

pytestmark = pytest.mark.usefixtures("private_places")


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[FakeKubernetes]:
    found = FakeKubernetes(tmp_path, {"dask-worker": "distributed.cli.dask_worker"})
    yield found
    found.close()


def cluster(kubernetes: FakeKubernetes, **keywords: Any) -> KubeCluster:
    small = {"worker_arguments": ["--no-nanny", "--no-dashboard"], "memory": "500 MB", "poll_interval": "100ms"}
    here = {"api": kubernetes.url, "namespace": "tests", "host": "127.0.0.1", "scheduler_options": {"dashboard": False}}
    return KubeCluster(**{"image": "dask:1", **small, **here, **keywords})


def test_pods_come_go_and_are_replaced(kubernetes: FakeKubernetes, caplog: pytest.LogCaptureFixture) -> None:
    pods = kubernetes.objects["pods"]
    with cluster(kubernetes, n_workers=2, env={"A": "1"}) as own, Client(own) as client:
        client.wait_for_workers(2, timeout=60)
        assert client.gather(client.map(inc, range(10))) == list(range(1, 11))
        assert list(kubernetes.objects["secrets"]) == [own.name]
        token = kubernetes.objects["secrets"][own.name]["stringData"]["token"]
        assert not any(token in str(pod) for pod in pods.values())
        evicted, deleted = list(pods)
        kubernetes.fail(evicted, "Evicted")
        poll_for(lambda: evicted not in pods and len(pods) == 2, timeout=30)
        assert f"has ended: its pod {evicted} is Failed: Evicted" in caplog.text
        kubernetes.delete("pods", deleted)
        poll_for(lambda: len(pods) == 2, timeout=30)
        client.wait_for_workers(2, timeout=60)
        own.scale(1)
        poll_for(lambda: len(pods) == 1, timeout=30)
        own.scale(memory="1 GB")
        poll_for(lambda: len(pods) == 2, timeout=30)
    assert not pods
    assert not kubernetes.objects["secrets"]
    if importlib.util.find_spec("kubernetes_validate"):
        import kubernetes_validate

        for document in kubernetes.made:
            kubernetes_validate.validate(document, "1.30", strict=True)


def test_a_template_is_added_to(kubernetes: FakeKubernetes) -> None:
    template = {"metadata": {"labels": {"team": "a"}}, "spec": {"nodeSelector": {"disk": "ssd"}}}
    with cluster(kubernetes, n_workers=1, cores=2, pod_template=template, image="nowhere/x"):
        (pod,) = kubernetes.made[1:2]
    assert pod["metadata"]["labels"]["team"] == "a"
    assert pod["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "500000000"}
    assert template["metadata"] == {"labels": {"team": "a"}}


def test_a_pod_that_is_being_made_when_the_cluster_closes_is_deleted(kubernetes: FakeKubernetes) -> None:
    with cluster(kubernetes, n_workers=0, image="nowhere/x") as own:
        kubernetes.admits.clear()
        own.scale(2)
        assert kubernetes.asked.wait(30)
        closing = threading.Thread(target=own.close)
        closing.start()
        poll_for(lambda: own.status is Status.closing, timeout=30)
        kubernetes.admits.set()
        closing.join(60)
        assert not closing.is_alive()
    assert len(kubernetes.made) > 1  # beside the Secret
    assert not kubernetes.objects["pods"] and not kubernetes.objects["secrets"]


def test_what_goes_wrong_is_told(kubernetes: FakeKubernetes, caplog: pytest.LogCaptureFixture) -> None:
    kubernetes.refuse = "exceeded quota"
    with pytest.raises(RuntimeError, match=r"Kubernetes refuses \(POST pods, 403\): pods .* exceeded quota"):
        cluster(kubernetes, n_workers=1)
    assert not kubernetes.objects["secrets"]
    kubernetes.refuse = None
    with cluster(kubernetes, n_workers=1, image="nowhere/x"):
        poll_for(lambda: "cannot run: ErrImagePull: no such image" in caplog.text, timeout=30)
    assert not kubernetes.objects["pods"]
    with pytest.raises(RuntimeError, match="kubectl proxy"):
        cluster(kubernetes, api=None)
    with pytest.raises(RuntimeError, match="does not answer"):
        cluster(kubernetes, api="http://127.0.0.1:1")
