"""S87: ``dask-ec2 up/ssh/destroy``. Amazon's side is played by a moto server, which keeps the books of machines and
starts none; the machines that dask is started on are real SSH servers on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from distributed import Client
from distributed.cli import dask_ec2
from distributed.deploy import ec2
from distributed.deploy.remote_start import Machine, start_cluster
from distributed.testing import inc, poll_for
from tests.engines.processes import Daemons, free_ports
from tests.engines.sshd import SSHHosts, require_sshd

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("private_places")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("moto.server", reason="needs the package moto (pip install 'moto[ec2,server]' boto3)")
    pytest.importorskip("boto3", reason="needs the package boto3")
    (port,) = free_ports(1)
    daemons = Daemons(tmp_path_factory.mktemp("moto"), {**os.environ, "AWS_EC2_METADATA_DISABLED": "true"})
    daemons.start("moto", sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    listens = lambda: any(c.laddr.port == port for c in psutil.net_connections("tcp") if c.status == "LISTEN")
    daemons.wait_for(listens, "moto listens")
    yield f"http://127.0.0.1:{port}"
    daemons.close()


@pytest.fixture
def api(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ec2, "_PAUSE_S", 0.05)
    found = boto3.client("ec2")
    subprocess.run(["curl", "-s", "-X", "POST", f"{server}/moto-api/reset"], check=True, timeout=20)
    found.create_key_pair(KeyName="mine")
    return found


def image(api: Any) -> str:
    return str(api.describe_images(Owners=["amazon"])["Images"][0]["ImageId"])


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(dask_ec2.main, list(words))
    return done.exit_code, done.output


def test_s87_up_and_destroy(api: Any, tmp_path: Path) -> None:
    key, file = tmp_path / "mine.pem", tmp_path / "cluster.yaml"
    key.write_text("")
    options = ["--keyname", "mine", "--keypair", str(key), "--name", "a", "--count", "3", "--type", "t3.small", "--ami"]
    options += [image(api), "--volume-size", "20", "--allow-from", "10.0.0.0/8", "--no-provision", "--no-dask"]
    code, said = run("up", *options, "--file", str(file))
    assert code == 0, said
    assert "3 machines of the cluster a run" in said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    note = json.loads(file.read_text())
    found = [one for r in api.describe_instances()["Reservations"] for one in r["Instances"]]
    assert {one["InstanceId"] for one in found} == {one["id"] for one in note["instances"]}
    for one in found:
        assert (one["InstanceType"], one["KeyName"]) == ("t3.small", "mine")
        assert {"Key": "dask-cluster", "Value": "a"} in one["Tags"]
    (volume, *_) = api.describe_volumes()["Volumes"]
    assert (volume["Size"], volume["VolumeType"]) == (20, "gp3")
    (group,) = api.describe_security_groups(GroupNames=["dask"])["SecurityGroups"]
    outside = [rule for rule in group["IpPermissions"] if rule["IpRanges"]]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in outside] == [(22, 22)]
    assert outside[0]["IpRanges"] == [{"CidrIp": "10.0.0.0/8"}]

    code, said = run("up", *options, "--file", str(tmp_path / "other.yaml"))
    assert (code, "machines of a cluster named 'a' already" in said) == (1, True)
    code, said = run("up", *options, "--file", str(file))
    assert (code, "is there already" in said) == (2, True)

    code, said = run("destroy", "--file", str(file))
    assert (code, said.strip()) == (0, "3 machines of the cluster a have ended")
    states = [one["State"]["Name"] for r in api.describe_instances()["Reservations"] for one in r["Instances"]]
    assert states == ["terminated"] * 3
    assert not api.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["dask"]}])["SecurityGroups"]
    assert list(tmp_path.iterdir()) == [key]


def test_s87_what_amazon_refuses_is_one_line_and_nothing_is_left(api: Any, tmp_path: Path) -> None:
    key = tmp_path / "mine.pem"
    key.write_text("")
    common = ["--keypair", str(key), "--file", str(tmp_path / "c.yaml"), "--no-dask", "--no-provision"]
    code, said = run("up", "--keyname", "mine", "--ami", image(api), "--allow-from", "everywhere", *common)
    assert (code, said.count("\n")) == (1, 1), said
    assert said.startswith("Error: cannot make the security group: ") and "CIDR" in said, said
    code, said = run("up", "--keyname", "mine", *common)
    assert (code, "name one with --ami" in said) == (1, True)
    fleet = ec2.EC2(pause_s=0.01)
    with pytest.raises(RuntimeError, match="do not run after 0 s"):
        fleet._running = lambda ids, limit: fleet._wait(lambda: False, 0, "do not run")  # type: ignore[method-assign,assignment,return-value,func-returns-value]
        fleet.launch(ec2.Machines("b", "mine", 1, ami=image(api)))
    assert not fleet.find("b")
    for words, told in ((["ssh"], "cannot read"), (["destroy"], "cannot read")):
        code, said = run(*words, "--file", str(tmp_path / "none.yaml"))
        assert (code, told in said) == (2, True), said


def test_s87_dask_is_started_over_ssh_and_stays(tmp_path_factory: pytest.TempPathFactory) -> None:
    require_sshd()
    hosts = SSHHosts(tmp_path_factory.mktemp("ssh"), ["127.0.0.1", "127.0.0.2"])
    home = tmp_path_factory.mktemp("home")
    machines = [Machine(host, host, hosts.connect_options) for host in hosts.hosts]
    started: list[psutil.Process] = []
    try:
        name = f"t{os.getpid()}"
        options = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
        with pytest.raises(RuntimeError, match=r"exit code 3: .*no such tool"):
            asyncio.run(start_cluster(machines, name, str(hosts.python), "echo no such tool >&2; exit 3"))
        document, keys = asyncio.run(
            start_cluster(machines, name, str(hosts.python), None, 2, 0, options, ["--nthreads", "1"], str(home))
        )
        assert set(keys) == set(hosts.hosts)
        assert all(key.startswith("ssh-ed25519 ") for key in keys.values())
        path = home / "local.json"
        path.write_text(json.dumps(document))
        path.chmod(0o600)
        with Client(scheduler_file=str(path)) as client:
            client.wait_for_workers(2, timeout=60)
            assert client.gather(client.map(inc, range(10))) == list(range(1, 11))
            assert all(address.startswith("tcp://127.0.0.2:") for address in client.scheduler_info()["workers"])
        for process in psutil.process_iter():
            try:
                if f"{home}/dask-{name}.json" in process.cmdline():
                    started.append(process)
                    assert document["secret"] not in " ".join([*process.cmdline(), *process.environ().values()])
            except psutil.Error:
                pass
        assert len(started) == 2  # the connections that started them are closed, and they live
    finally:
        for process in started:
            process.terminate()
        psutil.wait_procs(started, 20)
        hosts.close()
    poll_for(lambda: not any(process.is_running() for process in started), timeout=20)


def test_s87_the_command_line_of_ssh() -> None:
    note = {"username": "me", "keypair": "/k.pem", "instances": [{"public": "1.1.1.1"}, {"public": "2.2.2.2"}]}
    words = dask_ec2.ssh_command(note, "c.yaml", 1, ("-N", "-L", "8786:10.0.0.1:8786"))
    assert words[:3] == ["ssh", "-i", "/k.pem"]
    assert "UserKnownHostsFile=c.known_hosts" in words
    assert words[-4:] == ["-N", "-L", "8786:10.0.0.1:8786", "me@2.2.2.2"]
    assert dask_ec2.ssh_command(note, "c.yaml", 0, ("ls", "-l"))[-3:] == ["me@1.1.1.1", "ls", "-l"]
    with pytest.raises(SystemExit):
        dask_ec2.ssh_command(note, "c.yaml", 2, ())


def test_s87_ssh_is_run(tmp_path: Path) -> None:
    (tmp_path / "ssh").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "ssh").chmod(0o755)
    note = {"username": "me", "keypair": "/k.pem", "instances": [{"public": "1.1.1.1"}]}
    (tmp_path / "c.yaml").write_text(json.dumps(note))
    command = [sys.executable, "-m", "distributed.cli.dask_ec2", "ssh", "--file", str(tmp_path / "c.yaml")]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for words, told in (
        ([], "me@1.1.1.1"),
        (["0", "-N", "-L", "1:h:2"], "-N -L 1:h:2 me@1.1.1.1"),
        (["0", "ls"], "ls"),
    ):
        done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=60)
        assert done.stdout.strip().endswith(told), done.stderr
