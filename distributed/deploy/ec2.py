"""Machines of Amazon EC2 for a cluster: launch, find, end. Shell: speaks to Amazon through boto3, and to nobody else.

What belongs to a cluster is found again by the tag ``dask-cluster``. Machines are reached by SSH alone: the security
group lets nothing else in from outside, and everything from one machine of the group to another.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["EC2", "Instance", "Machines"]

_TAG = "dask-cluster"
_PAUSE_S = 2.0
_UBUNTU = {"owner": "099720109477", "name": "ubuntu/images/hvm-ssd*/ubuntu-*-24.04-amd64-server-*"}
_GONE = ("shutting-down", "terminated", "stopping", "stopped")


@dataclass(frozen=True)
class Machines:
    """What is asked for.

    Parameters
    ----------
    name
        Of the cluster.
    keyname
        Of the key pair at Amazon that logs in to the machines.
    count
        How many; the first one is the scheduler's.
    type, ami, volume_type, volume_size_gib
        Of each machine; without ``ami`` the newest Ubuntu 24.04.
    security_group
        Made when there is none of that name.
    allow_from
        From where SSH is let in, as a block of addresses.
    """

    name: str
    keyname: str
    count: int = 4
    type: str = "m5.xlarge"
    ami: str | None = None
    volume_type: str = "gp3"
    volume_size_gib: int = 100
    security_group: str = "dask"
    allow_from: str = "0.0.0.0/0"


@dataclass(frozen=True)
class Instance:
    """A machine that runs; ``public`` is empty where it has no address outside."""

    id: str
    state: str
    private: str
    public: str


class EC2:
    """The machines of one region.

    Parameters
    ----------
    region
        Such as ``"us-east-1"``; None: as boto3 is configured.
    pause_s
        Between two looks at machines that start or end.

    Raises
    ------
    ImportError
        boto3 is not here.
    RuntimeError
        Of all methods: Amazon refuses; its own words are quoted.
    """

    def __init__(self, region: str | None = None, pause_s: float = _PAUSE_S) -> None:
        try:
            boto3 = importlib.import_module("boto3")
        except ImportError:
            raise ImportError("dask-ec2 needs the package boto3: pip install boto3") from None
        self.pause_s = pause_s
        with _told("connect"):
            self._api: Any = boto3.client("ec2", region_name=region)

    def launch(self, wanted: Machines, limit_s: float = 600) -> list[Instance]:
        """Start machines and wait until all run; on any failure those that were begun are ended."""
        if self.find(wanted.name):
            raise RuntimeError(f"there are machines of a cluster named {wanted.name!r} already: destroy it first")
        group = self._group(wanted)
        image = wanted.ami or self._newest_image()
        disk = {"VolumeType": wanted.volume_type, "VolumeSize": wanted.volume_size_gib, "DeleteOnTermination": True}
        tags = [{"Key": _TAG, "Value": wanted.name}, {"Key": "Name", "Value": f"dask-{wanted.name}"}]
        with _told("start machines"):
            answer = self._api.run_instances(
                ImageId=image,
                InstanceType=wanted.type,
                KeyName=wanted.keyname,
                MinCount=wanted.count,
                MaxCount=wanted.count,
                SecurityGroupIds=[group],
                BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": disk}],
                InstanceInitiatedShutdownBehavior="terminate",
                MetadataOptions={"HttpTokens": "required"},
                TagSpecifications=[{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
            )
        ids = [one["InstanceId"] for one in answer["Instances"]]
        try:
            return self._running(ids, limit_s)
        except BaseException:
            self._terminate(ids)
            raise

    def find(self, name: str) -> list[Instance]:
        """The machines of that cluster that are not ended or ending, oldest first."""
        states = ["pending", "running"]
        return self._described([{"Name": f"tag:{_TAG}", "Values": [name]}, _named("instance-state-name", states)])

    def destroy(self, name: str, limit_s: float = 600) -> list[str]:
        """End the machines of that cluster, and its security group if it was made for it. Their ids."""
        ids = [one.id for one in self.find(name)]
        if ids:
            self._terminate(ids)
            self._wait(lambda: all(one.state == "terminated" for one in self._of(ids)), limit_s, "have not ended")
        with _told("remove the security group"):
            for group in self._api.describe_security_groups(Filters=[_named(f"tag:{_TAG}", [name])])["SecurityGroups"]:
                self._api.delete_security_group(GroupId=group["GroupId"])
        return ids

    # --- parts ------------------------------------------------------------------------------------------------------

    def _group(self, wanted: Machines) -> str:
        with _told("make the security group"):
            filters = [_named("group-name", [wanted.security_group])]
            found = self._api.describe_security_groups(Filters=filters)["SecurityGroups"]
            if found:
                return str(found[0]["GroupId"])
            tags = [{"ResourceType": "security-group", "Tags": [{"Key": _TAG, "Value": wanted.name}]}]
            made = self._api.create_security_group(
                GroupName=wanted.security_group, Description="Machines of a dask cluster", TagSpecifications=tags
            )
            group = str(made["GroupId"])
            ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": wanted.allow_from}]}
            within = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}
            self._api.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh, within])
        return group

    def _newest_image(self) -> str:
        with _told("look for an image"):
            filters = [_named("name", [_UBUNTU["name"]]), _named("state", ["available"])]
            found = self._api.describe_images(Owners=[_UBUNTU["owner"]], Filters=filters)["Images"]
        if not found:
            raise RuntimeError("no image of Ubuntu 24.04 in this region: name one with --ami")
        return str(max(found, key=lambda image: image["CreationDate"])["ImageId"])

    def _running(self, ids: list[str], limit_s: float) -> list[Instance]:
        def all_run() -> bool:
            found = self._of(ids)
            lost = [one for one in found if one.state in _GONE]
            if lost:
                raise RuntimeError(f"the machine {lost[0].id} is {lost[0].state} before it was used")
            return len(found) == len(ids) and all(one.state == "running" and one.private for one in found)

        self._wait(all_run, limit_s, "do not run")
        return self._of(ids)

    def _wait(self, fact: Any, limit_s: float, otherwise: str) -> None:
        deadline = time.monotonic() + limit_s
        while not fact():
            if time.monotonic() > deadline:
                raise RuntimeError(f"machines {otherwise} after {limit_s:.0f} s")
            time.sleep(self.pause_s)

    def _of(self, ids: list[str]) -> list[Instance]:
        by_id = {one.id: one for one in self._described([_named("instance-id", ids)])}
        return [by_id[one] for one in ids if one in by_id]

    def _described(self, filters: list[dict[str, Any]]) -> list[Instance]:
        found = []
        with _told("look at machines"):
            for page in self._api.get_paginator("describe_instances").paginate(Filters=filters):
                found += [one for reservation in page["Reservations"] for one in reservation["Instances"]]
        found.sort(key=lambda one: (str(one.get("LaunchTime", "")), one.get("AmiLaunchIndex", 0)))
        return [
            Instance(
                one["InstanceId"],
                one["State"]["Name"],
                one.get("PrivateIpAddress", ""),
                one.get("PublicIpAddress", ""),
            )
            for one in found
        ]

    def _terminate(self, ids: list[str]) -> None:
        with _told("end machines"):
            self._api.terminate_instances(InstanceIds=ids)


def _named(name: str, values: list[str]) -> dict[str, Any]:
    return {"Name": name, "Values": values}


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Errors of Amazon, and of the way there, in one line."""
    errors = importlib.import_module("botocore.exceptions")
    try:
        yield
    except (errors.BotoCoreError, errors.ClientError) as e:
        raise RuntimeError(f"cannot {what}: {' '.join(str(e).split())}") from None
