"""Data from the client to the workers: ``scatter``. Straight to them, in one message each; the scheduler hears
where it is.

Everything is pickled (once, also for a broadcast) before anything is sent, in the caller's thread. Shell.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from distributed.base.errors import CommClosedError
from distributed.base.keys import Key, as_key, user_key
from distributed.client.future_table import FutureState, run_ready
from distributed.client.futures import Future
from distributed.client.options import worker_names
from distributed.client.session import Session
from distributed.client.timeouts import seconds
from distributed.client.tokens import SCALARS, general_token, simple_token, unique_token
from distributed.comm.registry import connect_timeout
from distributed.messages.client_to_scheduler import (
    DataAnnounced,
    DataScattered,
    DataWithdrawn,
    ReplicaOnWorkers,
)
from distributed.messages.payload import Payload
from distributed.protocol.serialize import live
from distributed.protocol.sizeof import sizeof

logger = logging.getLogger("distributed.client")

SHARE_FROM = 512 * 1024
"""Bytes of a value that is worth a thread, which puts it into memory that the workers of this machine can map."""
_FIRST_PAUSE_S = 0.001
_PAUSE_S = 0.1
"""Until the scheduler is asked again for workers, after one has failed: it may not have noticed yet."""


class _Item:
    __slots__ = ("key", "nbytes", "payload", "shared", "type_name")

    def __init__(self, key: Key, value: Any, as_it_is: bool, dumps: Callable[[Any], Payload]) -> None:
        self.key = key
        self.payload: Payload = live(value) if as_it_is else dumps(value)
        self.shared: asyncio.Future[Payload] | None = None  # the payload, in shared memory
        self.nbytes = sizeof(value)
        self.type_name = type_name(value)


class _Announcement:
    """Knows whether it has been sent."""

    __slots__ = ("is_sent", "message")

    def __init__(self, message: DataAnnounced) -> None:
        self.message = message
        self.is_sent = False

    def take(self) -> list[Struct]:
        self.is_sent = True
        return [self.message]


async def _shared(item: _Item) -> Payload:
    """The payload of ``item`` in memory that the workers of this machine can map; made once."""
    if item.payload.nbytes < SHARE_FROM:
        return item.payload
    if item.shared is None:
        from distributed.protocol.shared_memory import share

        item.shared = asyncio.ensure_future(asyncio.to_thread(share, item.payload))
    return await asyncio.shield(item.shared)


def type_name(value: Any) -> str:
    """``int``, ``numpy.ndarray``, ...: what ``Future.type`` finds the class by."""
    kind = type(value)
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _packages(items: list[_Item]) -> list[str]:
    """What a worker will import to open those values that take their time to get there."""
    names = [item.type_name for item in items if item.payload.nbytes >= SHARE_FROM]
    return sorted({name.partition(".")[0] for name in names if "." in name})


def _key_of(value: Any, stable: bool) -> str:
    if not stable:
        token = unique_token()
    elif type(value) in SCALARS:
        token = simple_token(("data", value))
    else:
        token = general_token(value)
    return f"{type(value).__name__}-{token}"


class Scatterer:
    """Places data of one client."""

    def __init__(self, client: Any, session: Session) -> None:
        self.client = client
        self.session = session
        self._numbers = itertools.count(1)
        self._turn = itertools.count(random.randrange(1 << 16))

    def scatter(
        self,
        data: Any,
        workers: Any = None,
        broadcast: Any = False,
        direct: bool | None = None,
        hash: bool = True,
        timeout: Any = None,
        asynchronous: bool | None = None,
    ) -> Any:
        if isinstance(data, Iterator):
            raise TypeError("scatter takes a value, list, tuple, set or dict, not an iterator: make a list of it first")
        self.session.check_open("scatter")
        chosen = worker_names(workers)
        limit = seconds(timeout)
        if limit is None:
            limit = connect_timeout()
        items, shape = self._items(data, hash)
        return self.client.sync(
            self._scatter, items, shape, chosen, broadcast, direct, limit, asynchronous=asynchronous
        )

    def _items(self, data: Any, stable: bool) -> tuple[list[_Item], Any]:
        as_it_is, dumps = self.session.live, self.client.dumps_value
        if isinstance(data, dict):
            names = {name: as_key(name) for name in data}
            return [_Item(names[name], value, as_it_is, dumps) for name, value in data.items()], dict
        if type(data) in (list, tuple, set, frozenset) or isinstance(data, range):
            items: dict[Key, _Item] = {}
            keys = []
            for value in data:
                key = _key_of(value, stable)
                keys.append(key)
                if key not in items:
                    items[key] = _Item(key, value, as_it_is, dumps)
            return list(items.values()), (list if isinstance(data, range) else type(data), keys)
        return [_Item(_key_of(data, stable), data, as_it_is, dumps)], None

    async def _scatter(
        self,
        items: list[_Item],
        shape: Any,
        workers: tuple[str, ...] | None,
        broadcast: Any,
        direct: bool | None,
        limit: float,
    ) -> Any:
        made: dict[Key, Future] = {}
        if items:
            if direct is None:
                direct = self.client.direct_to_workers
            number = next(self._numbers)
            made, announcement = self._announce(items, number)
            try:
                await self._until_sent(announcement, limit)
                holders = await self._place(items, workers, broadcast, direct, limit)
            except BaseException:
                self._withdraw(made, number)
                raise
            self._tell(items, made, holders, number)
            await self.session.call(
                "who_has", keys=[]
            )  # sends what is queued; the scheduler knows of it all after this
        if shape is None:
            return made[items[0].key]
        if shape is dict:
            return {user_key(item.key): made[item.key] for item in items}
        kind, keys = shape
        return kind([made[key] for key in keys])

    def _announce(self, items: list[_Item], number: int) -> tuple[dict[Key, Future], _Announcement]:
        """Make the futures, and tell the scheduler of the keys."""
        session = self.session
        session.release_dropped()  # a key that was given up stands for a new value
        made: dict[Key, Future] = {}
        with session.table.lock:
            for item in items:
                state, _ = session.table.hold(item.key)
                made[item.key] = Future(user_key(item.key), self.client, state)
            announcement = _Announcement(DataAnnounced(number, list(made)))
            session.outgoing.add_late(announcement.take)
        session.wake()
        return made, announcement

    async def _until_sent(self, announcement: _Announcement, limit: float) -> None:
        """The scheduler is to know of the keys before it is asked for workers; but much may be queued before. (When
        the session ends it is cleared away.)"""
        session = self.session
        session.before_question("scatter_plan")
        epoch = session.outgoing.epoch
        give_up = session.loop.time() + limit
        pause = _FIRST_PAUSE_S
        while not announcement.is_sent and session.is_open and session.outgoing.epoch == epoch:
            if session.loop.time() > give_up:
                raise TimeoutError(f"what was submitted before the data could not be sent within {limit:g} s")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSE_S)

    def _withdraw(self, made: dict[Key, Future], number: int) -> None:
        """Nothing comes of it. (Releases go first: who holds no future any more is not told that it is lost.)"""
        for future in made.values():
            future.release()
        self.session.release_dropped()
        self.session.post(DataWithdrawn(number, list(made)))

    def _tell(
        self, items: list[_Item], made: dict[Key, Future], holders: Mapping[Key, tuple[str, ...]], number: int
    ) -> None:
        """The data is there. (Where the future was cancelled meanwhile the scheduler gives it up again.)"""
        table = self.session.table
        replicas = [ReplicaOnWorkers(item.key, holders[item.key], item.nbytes, item.type_name) for item in items]
        arrived: list[tuple[FutureState, _Item]] = []
        with table.lock:
            for item in items:
                state = table.states.get(item.key)
                if state is not None and state is made[item.key]._state and state.status != "finished":
                    arrived.append((state, item))
            self.session.outgoing.add(DataScattered(replicas, number))
        for state, item in arrived:
            run_ready(table.arrived(state, item.type_name, holders[item.key], item.nbytes))

    async def _place(
        self,
        items: list[_Item],
        workers: tuple[str, ...] | None,
        broadcast: Any,
        direct: bool | None,
        limit: float,
    ) -> dict[Key, tuple[str, ...]]:
        """Send every item to the workers it is planned for; returns who has taken it.

        A worker that ends meanwhile is replaced by another one. One that fails twice and is still there fails the call.
        """
        holders: dict[Key, tuple[str, ...]] = {}
        failed: set[str] = set()
        while True:
            found = await self._find_workers(workers, limit)
            plan = self._plan(items, {worker: nthreads for worker, (nthreads, _) in found.items()}, broadcast)
            by_worker: dict[str, list[_Item]] = {}
            for item in items:
                for worker in plan[item.key]:
                    by_worker.setdefault(worker, []).append(item)
            outcomes = await asyncio.gather(
                *[self._send(worker, part, found[worker][1], direct) for worker, part in by_worker.items()],
                return_exceptions=True,
            )
            errors = {w: e for w, e in zip(by_worker, outcomes, strict=True) if isinstance(e, BaseException)}
            for item in items:
                holders[item.key] = tuple([worker for worker in plan[item.key] if worker not in errors])
            items = [item for item in items if not holders[item.key]]
            if not items:
                return holders
            for worker, error in errors.items():
                if worker in failed or not isinstance(error, Exception):
                    raise error
                logger.info("%s has not taken its data, and is asked again if it is still there: %s", worker, error)
            failed.update(errors)
            await asyncio.sleep(_PAUSE_S)

    async def _find_workers(self, wanted: Sequence[str] | None, limit: float) -> dict[str, tuple[int, int | None]]:
        """Address -> (threads, which message of the scheduler is to be there before the data) of the workers to use;
        waits for the first one."""
        names = None if wanted is None else list(wanted)
        try:
            found: dict[str, tuple[int, int | None]] = await self.session.call(
                "scatter_plan", workers=names, timeout=limit
            )
        except TimeoutError:
            which = f" among {', '.join(wanted)}" if wanted else ""
            raise TimeoutError(f"No valid workers found{which} within {limit:g} s") from None
        return found

    def _plan(self, items: list[_Item], nthreads: Mapping[str, int], broadcast: Any) -> dict[Key, list[str]]:
        """Which workers get which item: in turn, weighted by threads; a broadcast goes to all, or to that many."""
        addresses = sorted(nthreads)
        if broadcast:
            count = len(addresses) if broadcast is True else min(int(broadcast), len(addresses))
            plan = {}
            for item in items:
                start = next(self._turn)
                plan[item.key] = [addresses[(start + i) % len(addresses)] for i in range(count)]
            return plan
        wheel = [address for address in addresses for _ in range(max(1, nthreads[address]))]
        if len(items) == 1:
            return {items[0].key: [wheel[next(self._turn) % len(wheel)]]}
        # Neighbours go to the same worker, as far as an even share allows.
        start = next(self._turn)
        return {
            item.key: [wheel[(start + number * len(wheel) // len(items)) % len(wheel)]]
            if len(items) > len(wheel)
            else [wheel[(start + number) % len(wheel)]]
            for number, item in enumerate(items)
        }

    async def _send(self, worker: str, items: list[_Item], after: int | None, direct: bool | None) -> None:
        message: dict[str, Any] = {"after": after, "placed": True}
        data = {item.key: item.payload for item in items}
        if direct is not False:
            try:
                connection = await self.session.pool.connect(worker)
                if connection.shares_memory:
                    if packages := _packages(items):
                        connection.tell("expect", {"packages": packages})
                    data = {item.key: await _shared(item) for item in items}
                await connection.request("update_data", {"data": data, **message})
                return
            except (OSError, TimeoutError) as e:
                if direct:
                    raise CommClosedError(f"cannot send data to the worker {worker}: {e}") from e
                logger.debug("Cannot reach %s directly: %s", worker, e)
        await self.session.call("proxy", worker=worker, msg={"op": "update_data", "data": data, **message})
