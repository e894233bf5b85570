"""Encryption: with another machine by default (a network namespace is one), with certificates of one's own by request,
and what somebody in between can do: nothing."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import ssl
import subprocess
import sys
import textwrap
import time

import dask
import pytest

from distributed import Client, LocalCluster, Security
from distributed.base.errors import FatalCommClosedError, HandshakeRefused
from distributed.comm import connect, handshake, listen
from distributed.comm.certificates import own_certificate
from distributed.comm.encrypted import TLSComm, encrypt
from distributed.comm.keys import OPEN, Secret
from distributed.messages.control import Control
from distributed.protocol.codec import Codec
from distributed.testing import gen_test, inc

EVERYTHING = {"distributed.comm.encryption": True}
SECRET = Secret.from_text("of the tests of encryption")


class House:
    def __init__(self, address="tcp://127.0.0.1:0", **options):
        self.comms = []
        self.listener = listen(address, self.on_comm, role="scheduler", **{"secret": SECRET, **options})

    def on_comm(self, comm):
        self.comms.append(comm)
        comm.start(lambda batch: None, lambda error: None, Codec(Control))

    async def __aenter__(self):
        await self.listener.start()
        self.address = self.listener.contact_address
        return self

    async def __aexit__(self, *exc):
        self.listener.stop()
        for comm in self.comms:
            comm.abort()


def test_a_cluster_with_certificates_of_its_own() -> None:
    security = Security.temporary()
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, security=security) as cluster:
        with Client(cluster) as client:
            addresses = [cluster.scheduler_address, *client.scheduler_info()["workers"]]
            assert all(address.startswith("tls://") for address in addresses)
            big = client.submit(bytes, 5_000_000, workers=[addresses[1]])
            assert client.submit(len, big, workers=[addresses[2]]).result() == 5_000_000
        with Client(cluster.scheduler_address, security=security) as client:
            assert client.submit(inc, 1).result() == 2


@gen_test()
async def test_certificates_of_another_authority_are_refused():
    ours = Security.temporary()
    async with House("tls://127.0.0.1:0", security=ours) as house:
        comm = await connect(house.address, 5, security=ours, shortcuts=False)
        assert type(comm) is TLSComm and comm.peer_role == "scheduler"
        comm.abort()
        begin = time.monotonic()
        with pytest.raises(FatalCommClosedError, match=r"TLS|does not take"):
            await connect(house.address, 5, security=Security.temporary(), shortcuts=False)
        # The listener shows its certificate, and asks in vain for one.
        half = Security(tls_ca_file=ours.tls_ca_file)
        with pytest.raises(TypeError, match="needs certificates"):
            await connect(house.address, 5, security=half, shortcuts=False)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host, _, port = house.address[6:].rpartition(":")
        sock = socket.create_connection((host, int(port)))
        sock.setblocking(False)
        stream = await encrypt(sock, context, listening=False)
        loop = asyncio.get_running_loop()
        while True:
            try:
                assert not stream.recv(100)
                break
            except BlockingIOError:
                gone = loop.create_future()
                loop.add_reader(stream.fileno(), lambda gone=gone: gone.done() or gone.set_result(None))
                await gone
                loop.remove_reader(stream.fileno())
            except OSError:
                break
        stream.close()
        assert time.monotonic() - begin < 4.5 and len(house.comms) == 1


@gen_test()
async def test_plain_text_at_a_tls_address():
    async with House("tls://127.0.0.1:0", security=Security.temporary()) as house:
        with pytest.raises(OSError):
            await connect(house.address.replace("tls", "tcp"), 5, secret=SECRET, shortcuts=False)
        assert not house.comms


async def relay(reader, writer, change=lambda data: data, seen=None):
    try:
        while data := await reader.read(65536):
            if seen is not None:
                seen.append(data)
            writer.write(change(data))
    except ConnectionError:
        pass
    writer.close()


@gen_test(config=EVERYTHING)
async def test_nobody_in_between_reads_along():
    seen = []

    async def between(reader, writer):
        host, _, port = house.address[6:].rpartition(":")
        further = await asyncio.open_connection(host, int(port))
        await asyncio.gather(relay(reader, further[1], seen=seen), relay(further[0], writer, seen=seen))

    async with House() as house:
        server = await asyncio.start_server(between, "127.0.0.1", 0)
        address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        comm = await connect(address, 5, secret=SECRET, shortcuts=False)
        assert type(comm) is TLSComm
        comm.start(lambda batch: None, lambda error: None, Codec(Control))
        from distributed.messages.control import RegisterClient

        comm.send([RegisterClient("a very well known text")])
        await comm.close()
        server.close()
    said = b"".join(seen)
    assert len(said) > 300 and b"well known text" not in said


@gen_test(config=EVERYTHING)
async def test_somebody_in_between_with_a_certificate_of_his_own():
    """He passes the handshake through, and would speak TLS with both ends: neither takes him."""
    both = []

    async def between(reader, writer):
        host, _, port = house.address[6:].rpartition(":")
        there = await asyncio.open_connection(host, int(port))
        for size, source, target in ((49, reader, there[1]), (97, there[0], writer), (48, reader, there[1])):
            target.write(await source.readexactly(size))
        target = writer
        target.write(await there[0].readexactly(48))
        await writer.drain()
        own = own_certificate()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        sock = there[1].transport.get_extra_info("socket").dup()
        there[1].transport.pause_reading()
        stream = await encrypt(sock, context, listening=False)
        stream.send(bytes(32))  # he cannot know what is to be said here
        both.append(stream)
        assert own is not None
        writer.close()

    async with House() as house:
        server = await asyncio.start_server(between, "127.0.0.1", 0)
        address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(OSError):
            await connect(address, 2, secret=SECRET, shortcuts=False)
        assert not house.comms
        for stream in both:
            stream.close()
        server.close()
    assert handshake.MAX_FRAME == 256


def test_a_security_travels_by_pickle_but_does_not_show_its_keys() -> None:
    security = Security.temporary()
    again = pickle.loads(pickle.dumps(security))
    assert again.tls_worker_key == security.tls_worker_key
    assert "PRIVATE" not in repr(security) and "BEGIN" not in repr(security)


@gen_test()
async def test_without_authentication_only_loopback_is_listened_at():
    for address in ("tcp://0.0.0.0:0", "tcp://:0"):
        listener = listen(address, print, secret=OPEN)
        with pytest.raises(PermissionError, match="insecure-listen"):
            await listener.start()
    async with House(secret=OPEN) as house:
        with pytest.raises(HandshakeRefused, match="AUTH__REQUIRED=False"):
            await connect(house.address, 5, shortcuts=False)
        with dask.config.set({"distributed.auth.required": False}):
            (await connect(house.address, 5, shortcuts=False)).abort()
    with dask.config.set({"distributed.auth.insecure-listen": True}):
        listener = listen("tcp://0.0.0.0:0", print, secret=OPEN)
        await listener.start()
        listener.stop()


OTHER_MACHINE = textwrap.dedent("""
    import asyncio, sys
    from distributed.comm import connect
    from distributed.comm.keys import Secret

    async def go():
        comm = await connect(sys.argv[1], 10, secret=Secret.from_text("of the tests of encryption"))
        print(type(comm).__name__, comm.secret_id.hex())
        comm.abort()

    asyncio.run(go())
""")


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace takes root")
@gen_test(timeout=60)
async def test_another_machine_is_spoken_to_in_tls():
    name = f"dsk{os.getpid() % 100000}"
    run = subprocess.run(["ip", "netns", "add", name], capture_output=True)
    if run.returncode:
        pytest.skip("this machine makes no network namespaces")
    try:
        for command in (
            f"ip link add {name}a type veth peer name {name}b netns {name}",
            f"ip addr add 10.213.77.1/24 dev {name}a",
            f"ip link set {name}a up",
            f"ip -n {name} addr add 10.213.77.2/24 dev {name}b",
            f"ip -n {name} link set {name}b up",
            f"ip -n {name} link set lo up",
        ):
            subprocess.run(command.split(), check=True)
        async with House("tcp://10.213.77.1:0", twin=False) as house:
            process = await asyncio.create_subprocess_exec(
                *["ip", "netns", "exec", name, sys.executable, "-c", OTHER_MACHINE, house.address],
                stdout=subprocess.PIPE,
            )
            out, _ = await asyncio.wait_for(process.communicate(), 30)
            assert out.decode().split() == ["TLSComm", SECRET.id.hex()]
            assert type(house.comms[0]) is TLSComm
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", f"{name}a"], check=False, capture_output=True)
