"""Values read out of the memory of the process that has them: over real unix sockets, with peers that say wrong
things."""

from __future__ import annotations

import asyncio
import sys

import numpy as np
import pytest

from distributed.comm import listen
from distributed.comm.keys import Secret
from distributed.messages.payload import Payload
from distributed.protocol import process_memory
from distributed.protocol.serialize import dumps, loads
from distributed.rpc.connection import Connection
from distributed.rpc.lending import Loans, get_data
from distributed.rpc.pool import connect
from tests.integration.comm.loops import on_uvloop, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process_vm_readv is Linux's")
SECRET = Secret.from_text("of the tests")
MB = 1 << 20
VALUE = np.arange(5 * MB // 8)


class Holder:
    """A listener that lends ``VALUE`` for each key, after ``change`` has had the loan in its hands; the asker."""

    def __init__(self, address="unix://", change=lambda loan: loan):
        self.address = address
        self.change = change
        self.loans = Loans()
        self.asked = []
        self.reading = asyncio.Event()

    def get_data(self, keys, connection, who="", borrows=False):
        self.asked.append(borrows)
        if not borrows:
            return {key: dumps(VALUE) for key in keys}
        return {key: self.change(self.loans.lend(connection, dumps(VALUE))) for key in keys}

    def end_loans(self, numbers, connection):
        return self.loans.end(connection, numbers)

    async def __aenter__(self):
        handlers = {"get_data": self.get_data, "end_loans": self.end_loans}
        made = []
        self.listener = listen(
            self.address, lambda comm: made.append(Connection(comm, handlers)), role="worker", secret=SECRET
        )
        await self.listener.start()
        self.client = await connect(self.listener.contact_address, 5, secret=SECRET, shortcuts=False)
        await until(lambda: made)
        self.server = made[0]
        return self

    async def __aexit__(self, *exc):
        self.listener.stop()
        await self.client.close()
        await self.server.close()
        await until(lambda: self.client.closed and self.server.closed and not len(self.loans))

    async def fetch(self, *keys):
        answer = await get_data(self.client, list(keys), "me")
        assert list(answer) == list(keys) and all(type(value) is Payload for value in answer.values())
        return [loads(value) for value in answer.values()]


@on_uvloop
async def test_what_is_lent_is_copied_and_given_back():
    async with Holder() as holder:
        values = await holder.fetch("x", "y", "z", "u")  # enough for two threads
        assert all((value == VALUE).all() and value.flags.writeable for value in values)
        values[0][:] = 0
        assert (await holder.fetch("x"))[0][7] == 7
        assert holder.asked == [True, True] and len(holder.loans) == 0


@on_uvloop
async def test_over_tcp_nothing_is_borrowed():
    async with Holder("tcp://127.0.0.1:0") as holder:
        assert ((await holder.fetch("x"))[0] == VALUE).all()
        assert holder.asked == [False] and holder.client.comm.peer_pid == 0


def _at(position, value):
    return lambda loan: (*loan[:position], value, *loan[position + 1 :])


WRONG = {
    "another process": _at(1, bytes(16)),
    "no such memory": _at(4, [(8, 4096)]),
    "memory that ends": _at(4, [((1 << 47) - 4096, 1 << 20)]),
    "a negative length": _at(4, [(1 << 30, -1)]),
    "more than a frame may have": _at(4, [(1 << 30, 1 << 60)]),
    "more than there is": _at(4, [(1 << 30, 1 << 39)]),
    "no places": _at(4, "none"),
    "no loan at all": lambda loan: (loan[0],),
    "nothing": lambda loan: (),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
@on_uvloop
async def test_a_loan_that_cannot_be_read_is_asked_for_anew(change):
    async with Holder(change=change) as holder:
        assert ((await holder.fetch("x"))[0] == VALUE).all()
        assert ((await holder.fetch("y"))[0] == VALUE).all()
        assert holder.asked == [True, False, False]


@on_uvloop
async def test_what_was_withdrawn_meanwhile_is_not_used():
    async with Holder() as holder:
        holder.end_loans_there = holder.loans.end
        holder.loans.end = lambda connection, numbers: holder.end_loans_there(connection, numbers) and False
        assert ((await holder.fetch("x"))[0] == VALUE).all()
        assert holder.asked == [True, False]


@on_uvloop
async def test_an_asker_that_gives_up_gives_back(monkeypatch):
    started = asyncio.Event()

    async def endless(pid, loans):
        started.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("distributed.rpc.lending._read", endless)
    async with Holder() as holder:
        task = asyncio.ensure_future(holder.fetch("x"))
        await started.wait()
        assert len(holder.loans) == 1
        task.cancel()
        await until(lambda: not len(holder.loans))


@on_uvloop
async def test_a_connection_that_ends_ends_its_loans():
    async with Holder() as holder:
        await holder.client.request("get_data", {"keys": ["x"], "borrows": True})
        assert len(holder.loans) == 1
        holder.client.abort()
        await until(lambda: not len(holder.loans))


def test_memory_of_a_process_that_is_gone():
    with pytest.raises(OSError, match="of process 4194303 cannot be read"):
        process_memory.read_bytes((1 << 22) - 1, 1 << 20, 8)
