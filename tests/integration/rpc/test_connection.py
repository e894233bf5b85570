"""One connection over every transport: questions, streams, order, errors, closing."""

from __future__ import annotations

import asyncio
import sys
import time

import numpy as np
import pytest

from distributed.base.errors import CommClosedError, RemoteError
from distributed.comm import listen
from distributed.comm.keys import Secret
from distributed.messages.client_to_scheduler import ClientLogEvent, ReleaseKeys
from distributed.messages.control import Request
from distributed.messages.payload import Payload
from distributed.messages.scheduler_to_client import EventLogged, KeysLost
from distributed.protocol.plain import Pickled
from distributed.protocol.serialize import dumps
from distributed.rpc import connection as connection_module
from distributed.rpc.connection import Connection
from distributed.rpc.pool import connect
from tests.integration.comm.loops import on_both_loops, on_uvloop, until

SECRET = Secret.from_text("of the tests")
ADDRESSES = ["tcp://127.0.0.1:0", "unix://", "inproc://"]
transports = pytest.mark.parametrize("address", ADDRESSES)


class Odd(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a}-{b}")
        self.a = a


async def slow(seconds):
    await asyncio.sleep(seconds)
    return seconds


async def fail_later():
    await asyncio.sleep(0)
    raise KeyError("later")


def odd():
    raise Odd(1, 2)


HANDLERS = {
    "add": lambda x, y: x + y,
    "same": lambda value: value,
    "nothing": lambda: None,
    "slow": slow,
    "boom": lambda: 1 / 0,
    "fail_later": fail_later,
    "odd": odd,
    "who": lambda connection: connection.peer_role,
    "old_who": lambda comm=None: comm.peer_role,
    "timeout": lambda timeout: timeout,
    "unsendable": lambda: (i for i in ()),
    "exits": lambda: sys.exit(3),
    "blocked": lambda: 1,
}


class Link:
    """A listener whose first connection is ``server``, and ``client``, connected to it."""

    def __init__(self, address, server_unpickle=True, client_unpickle=True, **options):
        self.address = address
        self.server_unpickle = server_unpickle
        self.client_unpickle = client_unpickle
        self.options = options

    async def __aenter__(self):
        made = []
        self.listener = listen(
            self.address,
            lambda comm: made.append(
                Connection(
                    comm, HANDLERS, unpickle=self.server_unpickle, blocked=["blocked"], owner="Test", **self.options
                )
            ),
            role="scheduler",
            secret=SECRET,
        )
        await self.listener.start()
        self.client = await connect(
            self.listener.contact_address,
            5,
            secret=SECRET,
            shortcuts=self.address == "inproc://",
            unpickle=self.client_unpickle,
        )
        await until(lambda: made)
        self.server = made[0]
        return self.client, self.server

    async def __aexit__(self, *exc):
        self.listener.stop()
        await self.client.close()
        await self.server.close()
        await until(lambda: self.client.closed and self.server.closed)


@transports
@on_both_loops
async def test_questions_and_answers(address):
    async with Link(address) as (client, _):
        assert await client.call("add", x=1, y=2) == 3
        assert await client.call("nothing") is None
        assert await client.call("who") == "client"
        assert await client.call("old_who") == "client"
        assert await client.request("timeout", {"timeout": 5}) == 5
        value = {"a": [1, (2, "x"), {3}, b"y", None, 1.5, True], ("k", 0): frozenset([1])}
        assert await client.call("same", value=value) == value
        # Many at once, answered in any order.
        assert await asyncio.gather(*(client.call("slow", seconds=s) for s in (0.03, 0.0, 0.01))) == [0.03, 0.0, 0.01]


@transports
@on_both_loops
async def test_now_later_and_at_the_end_of_the_turn_keep_their_order(address):
    async with Link(address) as (client, server):
        got = []
        server.on_messages = got.extend
        client.send_later([ReleaseKeys(["a"])], 60.0)
        client.send(ReleaseKeys(["b"]))
        client.send_now([ReleaseKeys(["c"]), ReleaseKeys(["d"])])
        assert client.n_waiting == 0
        await until(lambda: len(got) == 4)
        assert [message.keys for message in got] == [["a"], ["b"], ["c"], ["d"]]
        client.send_later([ReleaseKeys(["e"])], 0.001)
        client.send_later([ReleaseKeys(["f"])], 0.001)
        await until(lambda: len(got) == 6)


@transports
@on_both_loops
async def test_errors_keep_their_type(address):
    async with Link(address) as (client, _):
        with pytest.raises(ZeroDivisionError, match="division by zero"):
            await client.call("boom")
        with pytest.raises(KeyError, match="later"):
            await client.call("fail_later")
        with pytest.raises(Exception, match="1-2"):
            await client.call("odd")
        with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
            await client.call("add", z=1)
        with pytest.raises(ValueError, match="unknown operation 'nope': Test has no handler"):
            await client.call("nope")
        with pytest.raises(ValueError, match="'blocked' is blocked on Test"):
            await client.call("blocked")
        assert await client.call("add", x=1, y=1) == 2


@pytest.mark.parametrize("address", ADDRESSES[:2])
@on_uvloop
async def test_what_cannot_be_sent_is_an_error_of_the_one_who_asks(address):
    async with Link(address) as (client, _):
        with pytest.raises(TypeError, match="generator"):
            await client.call("unsendable")
        with pytest.raises(TypeError):
            await client.call("same", value=(i for i in ()))
        assert await client.call("add", x=1, y=1) == 2


@on_uvloop
async def test_handler_that_exits_does_not_end_the_server():
    async with Link("tcp://127.0.0.1:0") as (client, _):
        with pytest.raises(RemoteError, match="SystemExit"):
            await client.call("exits")
        assert await client.call("add", x=1, y=1) == 2


@on_uvloop
async def test_a_side_that_must_not_unpickle():
    async with Link("tcp://127.0.0.1:0", server_unpickle=False, client_unpickle=False) as (client, _):
        answer = await client.call("same", value=np.arange(3))
        assert isinstance(answer, Pickled) and answer.load().tolist() == [0, 1, 2]
        payload = await client.call("same", value=dumps([1]))
        assert isinstance(payload, Payload)
        with pytest.raises(RemoteError, match="ZeroDivisionError: division by zero"):
            await client.call("boom")


@pytest.mark.parametrize("address", ADDRESSES)
@on_uvloop
async def test_big_values(address):
    async with Link(address) as (client, _):
        array = np.random.default_rng(0).random(3_000_000)
        got = await client.call("same", value=array)
        assert (got == array).all() and got.flags.writeable
        assert (got is array) == (address == "inproc://")


@transports
@on_both_loops
async def test_streams_keep_order_and_leave_in_batches(address):
    async with Link(address) as (client, server):
        got, batches = [], []
        server.on_messages = lambda messages: (batches.append(len(messages)), got.extend(messages))
        n = 100_000
        for i in range(n):
            client.send(ClientLogEvent(("t",), i))
        client.send_many([ClientLogEvent(("t",), n), ClientLogEvent(("t",), n + 1)])
        client.send_many([])
        assert client.n_waiting == n + 2
        await client.drain()
        await until(lambda: len(got) == n + 2, 20)
        assert [m.msg for m in got] == list(range(n + 2))
        assert len(batches) < 100 and max(batches) <= connection_module.MAX_BATCH
        back = []
        client.on_messages = back.extend
        server.send(EventLogged("t", 1))
        server.send(KeysLost(["k"]))
        await until(lambda: len(back) == 2)
        assert back == [EventLogged("t", 1), KeysLost(["k"])]


@transports
@on_uvloop
async def test_a_question_does_not_overtake_the_stream(address):
    async with Link(address) as (client, server):
        seen = []
        server.on_messages = lambda messages: seen.extend(m.msg for m in messages)
        server.handlers = {"seen": lambda: list(seen)}
        client.send(ClientLogEvent((), 1))
        question = asyncio.ensure_future(client.call("seen"))
        await asyncio.sleep(0)
        client.send(ClientLogEvent((), 2))
        assert await question == [1]
        await until(lambda: seen == [1, 2])


@transports
@on_uvloop
async def test_messages_are_held_until_somebody_takes_them(address):
    async with Link(address) as (client, server):
        for i in range(3):
            client.send(ClientLogEvent((), i))
        await client.call("nothing")
        got = []

        def first(messages):
            server.on_messages = None
            server.hold(messages[1:])
            got.append(("first", messages[0].msg))
            asyncio.get_running_loop().call_later(0.01, setattr, server, "on_messages", rest)

        def rest(messages):
            got.extend(("rest", m.msg) for m in messages)

        server.on_messages = first
        await asyncio.sleep(0)
        client.send(ClientLogEvent((), 3))
        await until(lambda: len(got) == 4)
        assert got == [("first", 0), ("rest", 1), ("rest", 2), ("rest", 3)]


@transports
@on_both_loops
async def test_closing_fails_open_questions_at_once(address):
    for how in ("theirs", "ours", "abort", "abort theirs"):
        async with Link(address) as (client, server):
            reasons = []
            client.add_on_closed(reasons.append)
            questions = [asyncio.ensure_future(client.call("slow", seconds=60)) for _ in range(3)]
            await client.call("nothing")
            begin = time.monotonic()
            if how == "theirs":
                await server.close()
            elif how == "ours":
                await client.close()
            elif how == "abort":
                client.abort(ValueError("why"))
            else:
                server.abort()
            for answer in await asyncio.gather(*questions, return_exceptions=True):
                assert isinstance(answer, CommClosedError) and "before it answered 'slow'" in str(answer)
                if how == "abort":
                    assert "why" in str(answer)
            assert time.monotonic() - begin < 20
            await until(reasons.__len__)
            assert len(reasons) == 1
            with pytest.raises(CommClosedError, match="is closed"):
                client.send(ReleaseKeys([]))
            with pytest.raises(CommClosedError):
                await client.call("nothing")
            with pytest.raises(CommClosedError):
                await client.drain()
            later = []
            client.add_on_closed(later.append)
            await until(later.__len__)
            for task in server._tasks:
                task.cancel()
            await until(lambda: not server._tasks)


@transports
@on_uvloop
async def test_last_words_arrive(address):
    async with Link(address) as (client, server):
        got = []
        server.on_messages = got.extend
        for i in range(1000):
            client.send(ClientLogEvent((), i))
        await client.close()
        await until(lambda: server.closed)
        assert [m.msg for m in got] == list(range(1000))


@on_uvloop
async def test_timeout_of_a_question():
    async with Link("tcp://127.0.0.1:0") as (client, server):
        with pytest.raises(TimeoutError, match=r"no answer to 'slow' from tcp.* within 0.02 s"):
            await client.call("slow", seconds=0.1, timeout=0.02)
        question = asyncio.ensure_future(client.call("slow", seconds=0.05))
        await asyncio.sleep(0.01)
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question
        await until(lambda: not server._tasks)
        assert client._pending == {}
        assert await client.call("add", x=1, y=1) == 2


@on_uvloop
async def test_a_message_of_another_link_closes_the_connection():
    async with Link("tcp://127.0.0.1:0") as (client, server):
        got = []
        server.on_messages = got.extend
        client.send(EventLogged("t", 1))  # a scheduler's word, not a client's
        await until(lambda: client.closed)
        assert not got


@on_uvloop
async def test_an_unsendable_stream_message_is_reported():
    async with Link("tcp://127.0.0.1:0") as (client, server):
        got, bad = [], []
        server.on_messages = got.extend
        client.on_unsendable = lambda message, error: bad.append((message.msg.__class__, str(error)))
        client.send(ClientLogEvent((), 1))
        client.send(ClientLogEvent((), (i for i in ())))
        client.send(ClientLogEvent((), 2))
        await until(lambda: len(got) == 2)
        assert [m.msg for m in got] == [1, 2]
        assert bad and bad[0][0].__name__ == "generator"


@on_uvloop
async def test_error_in_on_messages_or_on_closed_is_contained(caplog):
    async with Link("tcp://127.0.0.1:0") as (client, server):
        got = []

        def defect(messages):
            got.extend(messages)
            raise RuntimeError("defect")

        server.on_messages = defect
        client.add_on_closed(lambda error: 1 / 0)
        client.send(ClientLogEvent((), 1))
        await client.call("nothing")
        client.send(ClientLogEvent((), 2))
        await client.call("nothing")
        assert len(got) == 2
    assert "defect" in caplog.text and "ZeroDivisionError" in caplog.text


@on_uvloop
async def test_noise_in_requests():
    async with Link("tcp://127.0.0.1:0") as (client, _):
        for body in (Payload(b""), Payload(b"\xc1"), Payload(b"\x01")):
            future = asyncio.get_running_loop().create_future()
            client._last_id += 1
            client._pending[client._last_id] = (future, "add")
            client.send(Request(client._last_id, "add", body))
            assert (await future).error is not None
        assert await client.call("add", x=1, y=1) == 2
