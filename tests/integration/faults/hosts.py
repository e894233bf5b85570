"""Hosts on one machine: network namespaces behind a router, whose rules drop or refuse what goes from one to another.

Takes root, and a kernel that makes namespaces. The test process is host 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TextIO

import pytest

ROOT = Path(__file__).parents[3]
NETS = [f"10.{i}" for i in range(214, 234)]
"""Each test process has one of these for its hosts: two with the same could not both have a route to them."""

MEMBER = """
import asyncio, json, sys
from distributed.nanny import Nanny
from distributed.worker import Worker
async def main():
    kind, address, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    async with {"worker": Worker, "nanny": Nanny}[kind](address, **options) as member:
        print(member.address, flush=True)
        ended = asyncio.ensure_future(member.finished())
        stop = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await asyncio.wait([ended, stop], return_when=asyncio.FIRST_COMPLETED)
if __name__ == "__main__":
    asyncio.run(main())
"""


RELAY = """
import fcntl, os, random, select, struct, sys
names, loss, chance = sys.argv[1:3], float(sys.argv[3]), random.Random(int(sys.argv[4]))
ends, n_lost, n_passed = [], 0, 0
for name in names:
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1001))  # TUNSETIFF: packets of IP, no header
    ends.append(fd)
print("ready", flush=True)
while True:
    for fd in select.select([*ends, sys.stdin], [], [])[0]:
        if fd is sys.stdin:
            print(n_lost, n_passed)
            sys.exit()
        packet = os.read(fd, 65536)
        if chance.random() < loss:
            n_lost += 1
            continue
        try:
            os.write(ends[1 - ends.index(fd)], packet)
            n_passed += 1
        except OSError:  # the other end is not up yet
            n_lost += 1
"""


def _run(command: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command.split(), capture_output=True, **options)


def _sweep() -> None:
    """Take away what a test process that was killed has left: its route would stand in the way."""
    links = _run("ip -br link").stdout.decode().split("\n")
    for name in [line.split("@")[0].split(" ")[0] for line in links]:
        if name.startswith("dl") and name[2:].isdigit() and not os.path.exists(f"/proc/{name[2:]}"):
            _run(f"ip link del {name}")
            for line in _run("ip netns").stdout.decode().split("\n"):
                space = line.split(" ")[0]
                if space.split("-")[0] == name:
                    _run(f"ip netns del {space}")


def _take_net() -> tuple[str, TextIO]:
    """A net, and the open file whose lock says that it is taken."""
    for net in NETS:
        lock = (Path(tempfile.gettempdir()) / f"distributed-tests-net-{net}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return net, lock
    raise RuntimeError(f"each of the {len(NETS)} nets is taken by another test process")


class Hosts:
    """``n`` hosts beside this one.

    Skips the test where there cannot be any.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.name = f"dl{os.getpid()}"

    def ip(self, host: int) -> str:
        """Address of a host; that of the test is 0."""
        return f"{self.net}.{host}.2"

    def __enter__(self) -> Hosts:
        if os.geteuid() != 0:
            pytest.skip("network namespaces take root")
        name = self.name
        _sweep()
        if _run(f"ip netns add {name}").returncode:
            pytest.skip("this machine makes no network namespaces")
        self.net, self._taken = _take_net()
        try:
            forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
            subprocess.run(["ip", "netns", "exec", name, "sh", "-c", forward], check=True)
            for command in self._commands():
                _run(command, check=True)
        except subprocess.CalledProcessError as error:
            self.__exit__()
            pytest.skip(f"this machine makes no hosts: {error.stderr.decode()}")
        return self

    def _commands(self) -> list[str]:
        name, net = self.name, self.net
        commands = [
            f"ip link add {name} type veth peer name p0 netns {name}",
            f"ip addr add {self.ip(0)}/24 dev {name}",
            f"ip link set {name} up",
            f"ip -n {name} addr add {net}.0.1/24 dev p0",
            f"ip -n {name} link set p0 up",
            f"ip route add {net}.0.0/16 via {net}.0.1",
        ]
        for i in range(1, self.n + 1):
            commands += [
                f"ip netns add {name}-{i}",
                f"ip -n {name} link add p{i} type veth peer name e0 netns {name}-{i}",
                f"ip -n {name}-{i} link set lo up",
                f"ip -n {name}-{i} addr add {self.ip(i)}/24 dev e0",
                f"ip -n {name}-{i} link set e0 up",
                f"ip -n {name} addr add {net}.{i}.1/24 dev p{i}",
                f"ip -n {name} link set p{i} up",
                f"ip -n {name}-{i} route add default via {net}.{i}.1",
            ]
        return commands

    def __exit__(self, *exc: object) -> None:
        _run(f"ip link del {self.name}")  # first: a namespace takes its end along some time after it is gone
        for i in range(1, self.n + 1):
            _run(f"ip netns del {self.name}-{i}")
            shutil.rmtree(f"/etc/netns/{self.name}-{i}", ignore_errors=True)
        _run(f"ip netns del {self.name}")
        self._taken.close()

    # --- faults

    def cut(self, one: int, other: int, how: str = "blackhole") -> None:
        """Nothing goes from one to the other, nor back."""
        self.cut_one_way(one, other, how)
        self.cut_one_way(other, one, how)

    def cut_one_way(self, source: int, target: int, how: str = "blackhole") -> None:
        """Nothing goes from ``source`` to ``target``: it is dropped, or (``unreachable``) refused."""
        _run(f"ip -n {self.name} rule add pref 100 from {self.ip(source)} to {self.ip(target)} {how}", check=True)

    def heal(self) -> None:
        """All is as at first."""
        while not _run(f"ip -n {self.name} rule del pref 100").returncode:
            pass

    def unplug(self, host: int) -> None:
        """Pull the cable of a host."""
        _run(f"ip -n {self.name} link set p{host} down", check=True)

    def plug(self, host: int) -> None:
        """Put it in again."""
        _run(f"ip -n {self.name} link set p{host} up", check=True)

    def limit(self, host: int, rate: str) -> bool:
        """Slow down what goes to a host; False where this machine cannot."""
        command = f"tc -n {self.name} qdisc replace dev p{host} root tbf rate {rate} burst 16k latency 400ms"
        return not _run(command).returncode

    @contextlib.asynccontextmanager
    async def lossy(self, host: int, loss: float) -> AsyncIterator[list[int]]:
        """A line to a host that loses this part of the packets, either way: a program of ours carries them from one
        network device to another, as few kernels have ``netem``. The list gets the numbers of lost and carried packets
        at the end."""
        if not os.path.exists("/dev/net/tun"):
            pytest.skip("this machine has no /dev/net/tun, by which packets are carried")
        counts: list[int] = []
        router, place = self.name, f"{self.name}-{host}"
        near, far = f"{self.name}n", f"{self.name}f"
        relay = await asyncio.create_subprocess_exec(
            sys.executable, "-c", RELAY, near, far, str(loss), "1", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )  # fmt: skip
        assert relay.stdout is not None and relay.stdin is not None
        try:
            if (await asyncio.wait_for(relay.stdout.readline(), 20)).strip() != b"ready":
                pytest.skip("this machine makes no tun devices")
            for command in (
                f"ip link set {near} netns {router}",
                f"ip link set {far} netns {place}",
                f"ip -n {router} link del p{host}",
                f"ip -n {router} addr add {self.net}.{host}.1/24 dev {near}",
                f"ip -n {router} link set {near} up",
                f"ip -n {place} addr add {self.ip(host)}/24 dev {far}",
                f"ip -n {place} link set {far} up",
                f"ip -n {place} route add default dev {far}",
            ):
                _run(command, check=True)
            yield counts
        finally:
            relay.stdin.close()
            said = await asyncio.wait_for(relay.stdout.read(), 20)
            await relay.wait()
            counts += map(int, said.split())

    # --- names

    def names(self, host: int, addresses: dict[str, str]) -> Path:
        """Names that a host knows: the file, which may be written anew; its programs read it at each look-up."""
        path = Path(f"/etc/netns/{self.name}-{host}/hosts")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join([f"{ip} {name}\n" for name, ip in addresses.items()]))
        return path

    # --- programs

    @contextlib.asynccontextmanager
    async def program(self, host: int, *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A Python program on a host; it is told to end by the end of its input."""
        process = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", f"{self.name}-{host}", sys.executable, *command),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 15)
            except TimeoutError:
                process.kill()
                await process.wait()

    @contextlib.asynccontextmanager
    async def member(self, host: int, kind: str, scheduler: str, **options: Any) -> AsyncIterator[str]:
        """A worker or nanny on a host: its address."""
        given = {"host": self.ip(host), "nthreads": 1, **options}
        async with self.program(host, "-c", MEMBER, kind, scheduler, json.dumps(given)) as process:
            assert process.stdout is not None
            address = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()
            assert address, "it has not started"
            yield address
