"""A transport as another package would write one: pickles over asyncio streams, under the scheme ``toy``."""

from __future__ import annotations

import asyncio
import pickle

from distributed.comm.core import BaseListener, Comm, CommClosedError, Connector
from distributed.comm.registry import Backend


class ToyComm(Comm):
    carried = 0  # bytes that comms of this process have written

    def __init__(self, reader, writer, deserialize=True):
        super().__init__(deserialize)
        self.reader = reader
        self.writer = writer

    @property
    def local_address(self):
        return "toy://{}:{}".format(*self.writer.get_extra_info("sockname"))

    @property
    def peer_address(self):
        return "toy://{}:{}".format(*self.writer.get_extra_info("peername"))

    async def read(self, deserializers=None):
        try:
            n = int.from_bytes(await self.reader.readexactly(8), "big")
            return pickle.loads(await self.reader.readexactly(n))
        except (EOFError, OSError) as error:
            raise CommClosedError(f"toy connection ended: {error}") from error

    async def write(self, msg, serializers=None, on_error=None):
        data = pickle.dumps(msg)
        ToyComm.carried += len(data)
        try:
            self.writer.write(len(data).to_bytes(8, "big") + data)
            await self.writer.drain()
        except OSError as error:
            raise CommClosedError(f"toy connection ended: {error}") from error

    async def close(self):
        self.writer.close()

    def abort(self):
        self.writer.transport.abort()

    def closed(self):
        return self.writer.is_closing()


class ToyConnector(Connector):
    seen_args: dict = {}

    async def connect(self, address, deserialize=True, **connection_args):
        ToyConnector.seen_args = connection_args
        host, port = address.split(":")
        try:
            return ToyComm(*await asyncio.open_connection(host, int(port)), deserialize)
        except OSError as error:
            raise CommClosedError(f"nobody plays at {address}") from error


class ToyListener(BaseListener):
    seen_args: dict = {}

    def __init__(self, location, handle_comm, deserialize, **connection_args):
        super().__init__()
        ToyListener.seen_args = connection_args
        host, port = location.split(":")
        self.host, self.port = host or "127.0.0.1", int(port)
        self.handle_comm = handle_comm
        self.server = None

    async def _arrived(self, reader, writer):
        comm = ToyComm(reader, writer)
        await self.on_connection(comm)
        try:
            await self.handle_comm(comm)
        finally:
            await comm.close()

    async def start(self):
        self.server = await asyncio.start_server(self._arrived, self.host, self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    def stop(self):
        if self.server is not None:
            self.server.close()
        self.abort_handshaking_comms()

    @property
    def listen_address(self):
        return f"toy://{self.host}:{self.port}"

    @property
    def contact_address(self):
        return self.listen_address


class ToyBackend(Backend):
    def get_connector(self):
        return ToyConnector()

    def get_listener(self, loc, handle_comm, deserialize, **connection_args):
        return ToyListener(loc, handle_comm, deserialize, **connection_args)

    def get_address_host(self, loc):
        return loc.split(":")[0]

    def get_address_host_port(self, loc):
        host, port = loc.split(":")
        return host, int(port)

    def resolve_address(self, loc):
        return loc.replace("localhost", "127.0.0.1")

    def get_local_address_for(self, loc):
        return "127.0.0.1"
