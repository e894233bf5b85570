"""The worker's half of shuffles: the runs that this worker takes part in, by id. Shell.

Tasks call :meth:`transfer`, :meth:`barrier` and :meth:`unpack` from their threads; peers send pieces and fetch
partitions; the scheduler ends runs. Everything but the splitting and joining of data happens on the event loop.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

from distributed.base.daemon_pool import DaemonThreadPool
from distributed.base.errors import CommClosedError, Reschedule
from distributed.messages.payload import Attached, Payload
from distributed.protocol import serialize
from distributed.shuffle import pieces as forms
from distributed.shuffle import settings as shuffle_settings
from distributed.shuffle import store as stores
from distributed.shuffle.errors import RunEndedError, ShuffleFailedError
from distributed.shuffle.limiter import MemoryLimiter
from distributed.shuffle.names import TOPIC
from distributed.shuffle.run import ShuffleRun
from distributed.worker.allocators import give_back_after

logger = logging.getLogger("distributed.shuffle")

T = TypeVar("T")


class ShuffleWorkerPlugin:
    """``worker.extensions["shuffle"]``.

    Attributes
    ----------
    runs
        The present run of each shuffle.
    """

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.runs: dict[str, ShuffleRun] = {}
        self.closed = False
        self._opening: dict[tuple[str, bool], asyncio.Task[ShuffleRun]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        worker.handlers.update(
            {
                "shuffle_receive": self.receive,
                "shuffle_settle": self.settle,
                "shuffle_fetch": self.fetch,
                "shuffle_end": self.end,
            }
        )

    @property
    def nbytes_on_disk(self) -> int:
        """In the files of all runs."""
        return sum([run.store.nbytes_on_disk for run in self.runs.values()])

    @functools.cached_property
    def settings(self) -> shuffle_settings.ShuffleSettings:
        """Read when the first shuffle begins."""
        return shuffle_settings.load(int(self.worker.memory_limit or 0))

    @functools.cached_property
    def limiter(self) -> MemoryLimiter:
        """What all runs hold in memory together."""
        return MemoryLimiter(self.settings.buffer_nbytes)

    @functools.cached_property
    def _disk(self) -> DaemonThreadPool:
        return DaemonThreadPool(self.settings.n_threads, "Dask-Shuffle-Disk")

    # ---------------------------------------------------------------- called by tasks, in their threads

    def transfer(self, data: Any, id: str, source: int) -> int:
        """Send an input to the holders of its pieces. Returns the run that it was sent for.

        Raises
        ------
        Reschedule
            The run ended meanwhile; there is another one, or nobody needs the shuffle any more.
        """
        run = self._wait(self.get_run(id, may_open=True))
        try:
            nbytes = run.transfer(data, source)
        except RunEndedError as error:
            raise _again(id, error) from None
        give_back_after(nbytes)
        self._log(id, "input-sent", run_id=run.run_id, source=source, nbytes=nbytes)
        return run.run_id

    def barrier(self, id: str, run_ids: list[int]) -> int:
        """All inputs are on their holders: make sure that these can give them out. Returns the run."""
        return self._wait(self._barrier(id, run_ids))

    async def _barrier(self, id: str, run_ids: list[int]) -> int:
        named = sorted(set(run_ids))
        try:
            run = await self._known_run(id)
            stats: dict[str, Any] = {}
            if named == [run.run_id]:
                message = {"id": id, "run_id": run.run_id}
                answers = await asyncio.gather(*[run.ask(h, "shuffle_settle", message) for h in run.holders])
                for name in ("nbytes", "nbytes_on_disk"):
                    stats[name] = sum(answer[name] for answer in answers)
        except RunEndedError as error:
            raise _again(id, error) from None
        if not await self._ask_scheduler("shuffle_barrier", id=id, run_ids=named, stats=stats):
            raise _again(id, "inputs were sent for different runs")
        return run.run_id

    def unpack(self, id: str, partition: int, run_id: int) -> Any:
        """An output partition of a run whose barrier has been passed."""
        try:
            run = self._wait(self._present_run(id, run_id))
            pieces = self._read(run, partition)
        except RunEndedError as error:
            raise _again(id, error) from None
        nbytes = sum(p.nbytes for p in pieces)
        self._log(id, "output-read", run_id=run_id, partition=partition, nbytes=nbytes)
        output = run.spec.join(partition, pieces)
        pieces.clear()
        give_back_after(nbytes)
        return output

    async def _present_run(self, id: str, run_id: int) -> ShuffleRun:
        try:
            return await self._named_run(id, run_id)
        except RunEndedError:
            # Usually this task is of an earlier run, and nobody waits for it any more. The scheduler knows.
            await self._ask_scheduler("shuffle_check", id=id)
            raise

    def _read(self, run: ShuffleRun, partition: int) -> list[forms.Piece]:
        holder = run.holder_of(partition)
        if holder != self.worker.address:
            # The task was not bound to the holder: it came to the scheduler too late for that.
            message = {"id": run.shuffle_id, "run_id": run.run_id, "partition": partition}
            found = self._wait(run.ask(holder, "shuffle_fetch", message))
            return list(forms.unpack_blocks(partition, found["data"].attached.buffers[0]))
        share = self._wait(run.share(partition))
        try:
            return stores.read(share)
        except OSError as error:
            run.check_open()
            text = f"partition {partition} of shuffle {run.shuffle_id} cannot be read on {holder}: {error}"
            raise ShuffleFailedError(text) from error

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run on the loop; ends with an error when the worker closes."""
        return asyncio.run_coroutine_threadsafe(self._tracked(coroutine), self.worker.asyncio_loop).result()

    async def _tracked(self, coroutine: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.closed:
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            raise CommClosedError(f"the worker {self.worker.address_safe} closes") from None

    # ---------------------------------------------------------------- runs

    async def get_run(self, id: str, at_least: int = 0, may_open: bool = False) -> ShuffleRun:
        """The present run of a shuffle, asked of the scheduler if it is not known to be that.

        Parameters
        ----------
        at_least
            There is a run of this number, so an earlier one is over.
        may_open
            Begin a run when there is none. Only inputs do.

        Raises
        ------
        ValueError
            There is no run, or nobody needs the shuffle.
        """
        run = self.runs.get(id)
        if run is not None and run.run_id >= at_least and not run.ended.is_set():
            return run
        attempt = (id, may_open)
        opening = self._opening.get(attempt)
        if opening is None:
            opening = self._opening[attempt] = asyncio.ensure_future(self._open(id, may_open))
            opening.add_done_callback(lambda _: self._opening.pop(attempt, None))
        return await asyncio.shield(opening)

    async def _open(self, id: str, may_open: bool) -> ShuffleRun:
        found = await self._ask_scheduler("shuffle_get", id=id, worker=self.worker.address, may_open=may_open)
        run = self.runs.get(id)
        if run is not None:
            if run.run_id >= found["run_id"]:
                return run
            self._drop(run, "a later run has begun")
        barrier = serialize.loads(found["barrier"])
        spec = barrier.spec
        run_id = found["run_id"]
        directory = os.path.join(self.worker.local_directory, f"shuffle-{id}-{run_id}")
        limiter = self.limiter if self.settings.disk and spec.disk else None
        store = stores.PieceStore(directory, limiter, self._disk, self.settings.compression)
        run = ShuffleRun(
            id,
            run_id,
            list(found["holders"]),
            found["message_nbytes"],
            spec,
            store,
            self.worker.address,
            self._ask,
            self.settings,
        )
        if self.closed:
            raise CommClosedError(f"the worker {self.worker.address_safe} closes")
        self.runs[id] = run
        return run

    async def _ask_scheduler(self, op: str, **kwargs: Any) -> Any:
        return await self.worker.link.ask(op, kwargs)

    async def _ask(self, address: str, op: str, message: dict[str, Any]) -> Any:
        if address == self.worker.address:
            return await self.worker.handlers[op](**message)
        connection = await self.worker.rpc.connect(address)
        return await connection.request(op, message)

    # ---------------------------------------------------------------- asked by peers and by the scheduler

    async def _known_run(self, id: str, at_least: int = 0) -> ShuffleRun:
        try:
            return await self.get_run(id, at_least)
        except ValueError as error:  # the scheduler knows of no run
            raise RunEndedError(str(error)) from None

    async def _named_run(self, id: str, run_id: int) -> ShuffleRun:
        run = await self._known_run(id, run_id)
        if run.run_id != run_id:
            raise RunEndedError(f"run {run_id} of shuffle {id} has been replaced by run {run.run_id}")
        return run

    async def receive(
        self, id: str, run_id: int, source: int, number: int, index: Any, data: Payload, **ignored: Any
    ) -> dict[str, Any]:
        """Keep pieces of partitions that lie here."""
        try:
            run = await self._named_run(id, run_id)
            await run.receive(source, number, index, data)
        except RunEndedError as error:
            return {"status": "ended", "reason": str(error)}
        except ShuffleFailedError as error:
            if (known := self.runs.get(id)) is not None and known.ended.is_set():
                return {"status": "ended", "reason": known.end_reason}
            raise ShuffleFailedError(f"worker {self.worker.address}: {error}") from error
        return {"status": "OK"}

    async def settle(self, id: str, run_id: int, **ignored: Any) -> dict[str, Any]:
        """Say how much lies here, once it is known to lie here well."""
        try:
            run = await self._named_run(id, run_id)
            await run.store.settle()
        except RunEndedError as error:
            return {"status": "ended", "reason": str(error)}
        except ShuffleFailedError as error:
            raise ShuffleFailedError(f"worker {self.worker.address}: {error}") from error
        return {"status": "OK", "nbytes": run.store.nbytes_received, "nbytes_on_disk": run.store.nbytes_on_disk}

    async def fetch(self, id: str, run_id: int, partition: int, **ignored: Any) -> dict[str, Any]:
        """Give out a partition that lies here to a task that runs elsewhere."""
        try:
            run = await self._named_run(id, run_id)
            share = await run.share(partition)
            block = await asyncio.get_running_loop().run_in_executor(self._disk, _read_block, share)
        except RunEndedError as error:
            return {"status": "ended", "reason": str(error)}
        except OSError as error:
            if run.ended.is_set():
                return {"status": "ended", "reason": run.end_reason}
            text = f"partition {partition} of shuffle {id} cannot be read on {self.worker.address}: {error}"
            raise ShuffleFailedError(text) from error
        return {"status": "OK", "data": Payload(b"", Attached([block]))}

    def end(self, id: str, run_id: int, reason: str = "", **ignored: Any) -> None:
        """The scheduler has ended a run."""
        run = self.runs.get(id)
        if run is not None and run.run_id <= run_id:
            self._drop(run, reason)

    def on_memory_short(self) -> None:
        """The worker pauses: what shuffles hold goes to disk."""
        for write_out in list(self.limiter.relieve):
            write_out()

    def _drop(self, run: ShuffleRun, reason: str) -> None:
        if self.runs.get(run.shuffle_id) is run:
            del self.runs[run.shuffle_id]
        if not run.ended.is_set():
            run.end_reason = reason
            run.ended.set()
            if run.store.nbytes_on_disk:
                self._log(run.shuffle_id, "files-removed", run_id=run.run_id, nbytes=run.store.nbytes_on_disk)
            task = asyncio.ensure_future(run.end(reason))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _log(self, id: str, action: str, **facts: Any) -> None:
        self.worker.log_event([TOPIC, f"{TOPIC}-{id}"], {"action": f"p2p-{action}", "id": id, **facts})

    async def close(self) -> None:
        """End everything; tasks that wait here get an error."""
        self.closed = True
        runs = list(self.runs.values())
        self.runs.clear()
        for task in [*self._tasks, *self._opening.values()]:
            task.cancel()
        for run in runs:
            await run.end("the worker closes")
        if "_disk" in self.__dict__:
            self._disk.shutdown(wait=False, cancel_futures=True)


def _read_block(share: stores.Share) -> bytes:
    return forms.pack_block(stores.read(share), None)


def _again(id: str, reason: object) -> Reschedule:
    logger.debug("A task of shuffle %s gives up its run: %s", id, reason)
    return Reschedule(f"shuffle {id}: {reason}")
