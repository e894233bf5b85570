"""The fault proxy between two sockets: each fault is what it says, and nothing is left behind."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from distributed.testing.fault_proxy import FaultProxy, Faults, Script
from tests.integration.comm.loops import on_both_loops, on_uvloop, until


class Echo:
    """A server that sends back what it gets."""

    async def __aenter__(self) -> Echo:
        self.got = b""
        self.ends: list[str] = []
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.address = f"tcp://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.got += data
                writer.write(data)
            self.ends.append("end")
        except ConnectionError:
            self.ends.append("reset")
        writer.close()

    async def __aexit__(self, *exc: Any) -> None:
        self.server.close()
        await self.server.wait_closed()


class Caller:
    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy

    async def __aenter__(self) -> Caller:
        host, _, port = self.proxy.address[6:].rpartition(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port))
        return self

    async def __aexit__(self, *exc: Any) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass

    async def ask(self, data: bytes, n: int | None = None) -> bytes:
        self.writer.write(data)
        return await asyncio.wait_for(self.reader.readexactly(len(data) if n is None else n), 30)

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), 30)


@on_both_loops
async def test_without_faults_it_is_a_relay() -> None:
    data = bytes(range(256)) * 20_000
    async with Echo() as echo, FaultProxy(echo.address) as proxy, Caller(proxy) as caller:
        assert await caller.ask(data) == data
        assert proxy.n_connections == proxy.n_open == 1 and proxy.nbytes("up") == proxy.nbytes("down") == len(data)
        caller.writer.write_eof()
        assert await caller.rest() == b"" and echo.ends == ["end"]
        await until(lambda: proxy.n_open == 0)
        assert proxy.nbytes("up") == len(data)


@on_uvloop
async def test_delay_and_rate() -> None:
    script = Script(up=Faults(delay_s=0.1), down=Faults(bytes_per_s=20_000))
    async with Echo() as echo, FaultProxy(echo.address, script) as proxy, Caller(proxy) as caller:
        begin = time.monotonic()
        assert await caller.ask(b"x") == b"x"
        assert time.monotonic() - begin >= 0.1
        begin = time.monotonic()
        assert await caller.ask(bytes(6000)) == bytes(6000)
        assert time.monotonic() - begin >= 0.1 + 0.25
        proxy.set_faults(Faults(), Faults())
        begin = time.monotonic()
        assert await caller.ask(bytes(600_000)) == bytes(600_000)
        assert time.monotonic() - begin < 20


@on_both_loops
async def test_ends() -> None:
    async with Echo() as echo:
        for faults, end in ((Faults(truncate_at=10), "end"), (Faults(reset_at=10), "reset")):
            echo.got, echo.ends = b"", []
            async with FaultProxy(echo.address, Script(up=faults)) as proxy, Caller(proxy) as caller:
                caller.writer.write(bytes(range(100)))
                if end == "reset":
                    with pytest.raises(ConnectionResetError):
                        await caller.rest()
                else:
                    assert len(await caller.rest()) <= 10
                await until(lambda: echo.ends)
                # A reset may overtake what came before it.
                assert echo.ends == [end] and (echo.got == bytes(range(10)) or end == "reset")
                await until(lambda: proxy.n_open == 0)


@on_uvloop
async def test_orders_at_run_time() -> None:
    async with Echo() as echo, FaultProxy(echo.address) as proxy:
        async with Caller(proxy) as caller:
            assert await caller.ask(b"abc") == b"abc"
            proxy.stall("down")
            caller.writer.write(b"def")
            await until(lambda: echo.got == b"abcdef")
            assert proxy.nbytes("down") == 3
            proxy.resume()
            assert await caller.reader.readexactly(3) == b"def"
            proxy.replay(3)
            proxy.inject(b"!")
            assert await caller.reader.readexactly(4) == b"def!" and proxy.n_replayed("up") == 3
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                await caller.rest()
            await until(lambda: echo.ends == ["reset"])
        async with Caller(proxy) as caller:
            proxy.refuse()
            assert await caller.ask(b"1") == b"1"
            with pytest.raises(ConnectionRefusedError):
                await Caller(proxy).__aenter__()
            proxy.close_links()
            assert await caller.rest() == b""
        proxy.refuse(0.05)
        address = proxy.address
        await until(lambda: proxy._listening is not None)
        async with Caller(proxy) as caller:
            assert proxy.address == address and await caller.ask(b"2") == b"2"


@on_uvloop
async def test_stalled_at_an_offset_with_nothing_lost() -> None:
    script = Script(up=Faults(stall_at=5), down=Faults(flip_at=(2,)), connections=(0,))
    async with Echo() as echo, FaultProxy(echo.address, script) as proxy:
        async with Caller(proxy) as caller, Caller(proxy) as other:
            caller.writer.write(b"0123456789")
            first = await caller.reader.readexactly(5)
            assert first[:2] + first[3:] == b"0134" and first[2:3] != b"2" and echo.got == b"01234"
            assert await other.ask(b"0123456789") == b"0123456789"
            proxy.resume()
            assert await caller.reader.readexactly(5) == b"56789"


@on_uvloop
async def test_nobody_at_the_target() -> None:
    async with FaultProxy("tcp://127.0.0.1:1") as proxy, Caller(proxy) as caller:
        assert await caller.rest() == b""
        assert proxy.n_failed == 1
