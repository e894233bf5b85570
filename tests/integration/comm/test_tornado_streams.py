"""``comm.tcp.TLS`` over tornado streams, as dask-gateway's backend makes and uses it."""

from __future__ import annotations

import asyncio
import struct

import pytest
from distributed.comm.utils import get_tcp_server_address
from tornado import tcpserver
from tornado.iostream import StreamClosedError
from tornado.tcpclient import TCPClient

from distributed import Security
from distributed.base.errors import FatalCommClosedError, FrameError
from distributed.comm import Secret, connect, listen
from distributed.comm.core import CommClosedError, Connector, Listener
from distributed.comm.encrypted import TLSComm
from distributed.comm.registry import Backend, backends
from distributed.comm.tcp import MAX_BUFFER_SIZE, TCP, TLS, convert_stream_closed_error, get_stream_address
from distributed.messages.control import Control, Reply
from distributed.protocol.codec import Codec
from tests.integration.comm.loops import on_both_loops, until

SECRET = Secret.new()


class TunnelConnector(Connector):
    async def connect(self, address, deserialize=True, **connection_args):
        host, port = address.split(":")
        try:
            plain = await TCPClient().connect(host, int(port), max_buffer_size=MAX_BUFFER_SIZE)
            stream = await plain.start_tls(False, ssl_options=connection_args["ssl_context"], server_hostname="name")
        except StreamClosedError as error:
            convert_stream_closed_error(self, error)
        return TLS(stream, f"tunnel://{get_stream_address(stream)}", f"tunnel://{address}", deserialize)


class TunnelListener(Listener, tcpserver.TCPServer):
    def __init__(self, handle_comm, ssl_context):
        tcpserver.TCPServer.__init__(self, ssl_options=ssl_context, max_buffer_size=MAX_BUFFER_SIZE)
        self.handle_comm = handle_comm

    async def start(self):
        self.listen(0, "127.0.0.1")

    def stop(self):
        tcpserver.TCPServer.stop(self)

    async def handle_stream(self, stream, address):
        try:
            await stream.wait_for_handshake()
        except OSError:
            return
        await self.handle_comm(TLS(stream, self.listen_address, "tunnel://{}:{}".format(*address)))

    @property
    def listen_address(self):
        return "tunnel://{}:{}".format(*get_tcp_server_address(self))

    contact_address = listen_address


class TunnelBackend(Backend):
    def get_connector(self):
        return TunnelConnector()

    def get_listener(self, loc, handle_comm, deserialize, **connection_args):
        return TunnelListener(handle_comm, connection_args["ssl_context"])

    def get_address_host(self, loc):
        return loc.split(":")[0]

    def resolve_address(self, loc):
        return loc

    def get_local_address_for(self, loc):
        return loc


@pytest.fixture(autouse=True)
def tunnel(monkeypatch):
    monkeypatch.setitem(backends, "tunnel", TunnelBackend())


@on_both_loops
async def test_messages_through_tls():
    security = Security.temporary()
    far = []
    got, back = [], []

    def on_comm(comm):
        far.append(comm)
        comm.start(got.extend, lambda error: far.append(error), Codec(Control))

    listener = listen("tunnel://127.0.0.1:0", on_comm, role="scheduler", secret=SECRET, security=security)
    await listener.start()
    comm = await connect(listener.contact_address, secret=SECRET, security=security)
    comm.start(back.extend, lambda error: None, Codec(Control))
    assert type(comm) is TLSComm and comm.peer_address == listener.contact_address
    await until(lambda: far)
    for i in range(200):
        comm.send([Reply(i)])
    far[0].send([Reply(1)])
    await until(lambda: len(got) == 200 and back)
    assert [m.id for m in got] == list(range(200))
    await comm.close()
    await until(lambda: len(far) == 2)
    assert far[1] is None

    with pytest.raises(FatalCommClosedError, match="CERTIFICATE"):
        await connect(listener.contact_address, secret=SECRET, security=Security.temporary())
    listener.stop()
    await until(lambda: not [t for t in asyncio.all_tasks() if t is not asyncio.current_task()])


async def plain_pair():
    arrived = asyncio.get_running_loop().create_future()

    class Server(tcpserver.TCPServer):
        async def handle_stream(self, stream, address):
            arrived.set_result(stream)

    server = Server()
    server.listen(0, "127.0.0.1")
    stream = await TCPClient().connect(*get_tcp_server_address(server), max_buffer_size=MAX_BUFFER_SIZE)
    far = await arrived
    server.stop()
    return TCP(stream, "tcp://a", "tcp://b"), TCP(far, "tcp://b", "tcp://a")


@on_both_loops
async def test_buffers_of_all_sizes_and_bad_ones():
    a, b = await plain_pair()
    sent = [b"", b"x", bytes(range(256)) * 40_000, bytearray(b"y" * 70_000)]
    n, got = await asyncio.gather(a.write(sent), b.read())
    assert [bytes(part) for part in got] == [bytes(part) for part in sent] and n > sum(map(len, sent))
    with pytest.raises(TypeError, match="lists of bytes-like objects"):
        await a.write({"op": "what"})
    await a.stream.write(struct.pack("!QQQ", 2, 1 << 60, 1))
    with pytest.raises(FrameError, match="max-frame-bytes"):
        await b.read()
    assert b.closed()
    with pytest.raises(CommClosedError):
        await a.read()
    with pytest.raises(CommClosedError, match="closed"):
        await a.write([b"x"])
    await a.close()
