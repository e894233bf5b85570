"""A client from its start to its end: finding the scheduler, being current, losing its peer (a fake), closing."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest

from distributed import CancelledError, Client, as_completed, get_client, wait
from distributed.client import ClosedClientError, default_client
from distributed.testing import div, inc, poll_for
from tests.integration.client.fake_cluster import fake_cluster


def test_current_clients(fake):
    with pytest.raises(ValueError):
        default_client()
    import dask

    before = dask.config.get("scheduler", None)
    with Client(fake.address) as first:
        assert default_client() is get_client() is Client.current() is first
        assert dask.config.get("scheduler") == "dask.distributed"
        with Client(fake.address, set_as_default=False) as second:
            assert default_client() is first
            with second.as_current():
                assert default_client() is get_client() is Client.current() is second
                assert dask.base.get_scheduler() == second.get
            assert default_client(second) is second
            assert dask.base.get_scheduler() == first.get
    assert dask.config.get("scheduler", None) == before
    with pytest.raises(ValueError):
        Client.current()
    with pytest.raises(ValueError):
        get_client()


def test_a_closed_client_says_so(fake):
    client = Client(fake.address)
    done, fresh = client.submit(inc, 1), None
    done.result()
    fake.hold.clear()
    pending = client.submit(inc, 2)
    waiter = []
    thread = threading.Thread(target=lambda: waiter.append(pending.exception()))
    thread.start()
    client.close()
    thread.join(5)
    assert not thread.is_alive(), "nothing waits for ever"
    assert pending.status == "cancelled"
    with pytest.raises(CancelledError):
        pending.result()
    for call in (
        lambda: client.submit(inc, 1),
        lambda: client.map(inc, [1]),
        lambda: client.scatter(1),
        lambda: client.who_has(),
        lambda: client.get({"x": 1}, "x"),
        lambda: client.cancel(done),
        lambda: client.run(inc, 1),
        lambda: client.scheduler_info(),
    ):
        start = time.monotonic()
        with pytest.raises(ClosedClientError):
            call()
        assert time.monotonic() - start < 20
    client.close()
    assert client.status == "closed" and "No scheduler" in repr(client) and fresh is None
    with Client(fake.address) as other:
        with pytest.raises(ValueError, match="closed"):
            other.submit(inc, done)


def test_futures_of_siblings(fake, client):
    with Client(fake.address, set_as_default=False) as sibling:
        theirs = sibling.submit(inc, 1)
        assert client.submit(inc, theirs).result() == 3
        with pytest.raises(ValueError, match="another client"):
            client.gather([theirs])
    with fake_cluster("inproc://") as elsewhere, Client(elsewhere.address, set_as_default=False) as stranger:
        with pytest.raises(ValueError, match="another client"):
            client.submit(inc, stranger.submit(inc, 1))


def test_dead_addresses():
    start = time.monotonic()
    with pytest.raises(OSError):
        Client("tcp://127.0.0.1:1", timeout=10)
    assert time.monotonic() - start < 9
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises((OSError, TimeoutError)):
            Client(f"tcp://127.0.0.1:{silent.getsockname()[1]}", timeout=0.5)
        assert time.monotonic() - start < 20
    with pytest.raises(ValueError):
        default_client()


def test_nothing_is_left_behind(fake):
    def threads():
        return {t for t in threading.enumerate() if t.name.startswith(("IO loop", "Future"))}

    before = threads()
    client = Client(fake.address)
    future = client.submit(inc, 1)
    future.add_done_callback(lambda f: None)
    future.result()
    client.close()
    poll_for(lambda: threads() <= before)
    reference = weakref.ref(client)
    del client, future
    gc.collect()
    assert reference() is None


def test_asynchronous(fake):
    async def main():
        async with Client(fake.address, asynchronous=True) as client:
            assert client.asynchronous
            with pytest.raises(TypeError, match="async with"):
                client.__enter__()
            future = client.submit(inc, 1)
            assert await future == 2
            assert await future.result() == 2
            assert await client.gather([future, client.submit(inc, 2)]) == [2, 3]
            assert (await wait([future])).done == {future}
            assert await client.gather(await client.scatter([1, 2])) == [1, 2]
            assert isinstance(await client.submit(div, 1, 0).exception(), ZeroDivisionError)
            seen = [f async for f in as_completed(client.map(inc, range(5)))]
            assert len(seen) == 5
            pairs = [pair async for pair in as_completed(client.map(inc, range(5)), with_results=True)]
            assert sorted(value for _, value in pairs) == [1, 2, 3, 4, 5]
            async for batch in as_completed(client.map(inc, range(5))).batches():
                assert batch
            with pytest.raises(TimeoutError):
                fake.hold.clear()
                try:
                    await client.submit(inc, 100).result(timeout=0.05)
                finally:
                    fake.hold.set()
            assert await client.get({"x": (inc, 1)}, "x") == 2
            assert await client.sync(asyncio.sleep, 0, 5) == 5
            await client.cancel(future)
            # From another thread the same client is synchronous.
            assert await asyncio.to_thread(lambda: client.submit(inc, 5).result()) == 6
        assert client.status == "closed"
        client = await Client(fake.address, asynchronous=True)
        closing = client.close()
        await closing

    asyncio.run(main())


def test_joblib_uses_a_sync_client_on_its_loop(fake, client):
    seen = []
    done = threading.Event()
    ac = as_completed([], loop=client.loop, with_results=True, raise_errors=False)

    async def collect():
        assert client.asynchronous
        data = await client.scatter([5], asynchronous=True, hash=False)
        ac.add(client.submit(inc, data[0], pure=False))
        async for _, result in ac:
            seen.append(result)
        done.set()

    client.loop.add_callback(collect)
    assert done.wait(5) and seen == [6]
    assert client.sync(asyncio.sleep, 0, 1) == 1


def break_connections(fake):
    for connection in list(fake.connections):
        fake.asyncio_loop.call_soon_threadsafe(connection.abort)


def test_a_broken_connection_is_made_again(fake, client):
    done = client.submit(inc, 1)
    done.result()
    fake.hold.clear()
    pending = client.submit(inc, 2)
    client.run_on_scheduler  # what was submitted leaves before the break or after it
    break_connections(fake)
    poll_for(lambda: client.session.link.counts["resumed"] == 1)
    poll_for(lambda: client.status == "running")
    fake.hold.set()
    assert pending.result(timeout=5) == 3
    assert done.status == "finished"
    assert client.submit(inc, 4).result(timeout=5) == 5


def test_a_scheduler_that_forgot_us_cancels_and_goes_on(fake, client):
    future = client.submit(inc, 1)
    future.result()
    fake.forgetful = True
    break_connections(fake)
    poll_for(lambda: future.status == "cancelled")
    with pytest.raises(CancelledError, match="session with the scheduler is over"):
        future.result()
    poll_for(lambda: client.status == "running")
    assert client.submit(inc, 1).result(timeout=5) == 2


def test_scheduler_file(tmp_path, fake):
    import json

    path = tmp_path / "scheduler.json"
    with pytest.raises(TimeoutError, match="scheduler file"):
        Client(scheduler_file=str(path), timeout=0.1)
    threading.Timer(0.2, lambda: path.write_text("{")).start()
    threading.Timer(0.4, lambda: path.write_text(json.dumps({"address": fake.address}))).start()
    with Client(scheduler_file=str(path), timeout=10) as client:
        assert client.submit(inc, 1).result() == 2


def test_restart(fake, client):
    future = client.submit(inc, 1)
    future.result()
    client.restart()
    assert future.status == "cancelled"
