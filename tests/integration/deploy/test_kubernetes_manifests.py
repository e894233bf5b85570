"""``examples/kubernetes``: the manifests are what Kubernetes' schema asks for, and what is in the containers runs.

There is no Kubernetes here: the test does the part of one that starts containers, without their isolation.
"""

from __future__ import annotations

import re
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from distributed import Client
from distributed.testing import inc, open_port
from tests.integration.cli.test_programs import Program, running

MANIFESTS = Path(__file__).parents[3] / "examples" / "kubernetes" / "cluster.yaml"
PROGRAMS = {"dask-scheduler": "distributed.cli.dask_scheduler", "dask-worker": "distributed.cli.dask_worker"}


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFESTS.read_text()))


@pytest.mark.engine
def test_the_manifests_are_valid() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="needs the package kubernetes-validate")
    for document in documents():
        validate.validate(document, "1.30", strict=True)


def test_what_refers_to_something_finds_it() -> None:
    service, scheduler, worker = documents()
    for deployment in (scheduler, worker):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == scheduler["spec"]["template"]["metadata"]["labels"]
    (container,) = scheduler["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports
    assert "token" not in str([d for d in documents() if d["kind"] == "Secret"])


def command(deployment: dict[str, Any], values: dict[str, Any], changes: dict[str, str]) -> list[str]:
    """What the container would run, with the values that its environment has from the pod."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    known = {one["name"]: one["value"] for one in container["env"] if "value" in one} | values
    assert {one["name"] for one in container["env"]} <= set(known)
    words = [re.sub(r"\$\((\w+)\)", lambda found: str(known[found[1]]), word) for word in container["args"]]
    for old, new in changes.items():
        words = [word.replace(old, new) for word in words]
    return [sys.executable, "-m", PROGRAMS[words[0]], *words[1:]]


def test_what_is_in_the_containers_runs(tmp_path: Path, private_places: None, monkeypatch: pytest.MonkeyPatch) -> None:
    _, scheduler, worker = documents()
    token = tmp_path / "token"
    token.write_text(secrets.token_urlsafe(32))
    (volume,) = scheduler["spec"]["template"]["spec"]["volumes"]
    token.chmod(volume["secret"]["defaultMode"])
    monkeypatch.setenv("DASK_DISTRIBUTED__AUTH_TOKEN_FILE", str(token))  # of the containers, and of the client
    port, pages = open_port("127.0.0.1"), open_port("127.0.0.1")
    changes = {
        "dask-scheduler:8786": f"127.0.0.1:{port}",
        "8786": str(port),
        "8787": str(pages),
        "/scratch": str(tmp_path),
    }
    pod = {"POD_IP": "127.0.0.1", "POD_NAME": "dask-worker-7d9c", "CORES": 2, "MEMORY": 4 << 30}
    with running(command(scheduler, pod, changes)) as first:
        address = first.line(r"Start scheduler at: +(\S+)")
        with running(command(worker, pod, changes)) as second:
            second.line(r"Registered to")
            with Client(address, timeout="20s") as client:
                assert client.gather(client.map(inc, range(10))) == list(range(1, 11))
                (info,) = client.scheduler_info()["workers"].values()
                assert (info["name"], info["nthreads"]) == ("dask-worker-7d9c", 2)
                assert info["memory_limit"] == 4 << 30
            end(second)
        end(first)


def end(program: Program) -> None:
    """As a kubelet ends a container."""
    code, text = program.end(timeout=30)
    assert code == 128 + 15, text
