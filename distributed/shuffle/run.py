"""One run of a shuffle as a worker sees it: what it sends to other holders, and what it holds itself. Shell."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from distributed.base.errors import CommClosedError
from distributed.messages.payload import Attached, Payload
from distributed.shuffle.errors import RunEndedError, ShuffleFailedError
from distributed.shuffle.pieces import Piece, pack, unpack
from distributed.shuffle.settings import ShuffleSettings
from distributed.shuffle.spec import ShuffleSpec
from distributed.shuffle.store import PieceStore, Share

Ask = Callable[[str, str, dict[str, Any]], Awaitable[Any]]
"""``(address, operation, arguments)`` -> answer."""


class ShuffleRun:
    """A run, open until the scheduler ends it.

    Parameters
    ----------
    me
        Address of this worker.
    holders
        Partition ``p`` lies with ``holders[p % len(holders)]``.
    message_nbytes
        A message to a holder is sent as soon as it has so many; the same for all workers.
    ask
        Asks a peer; raises ``OSError`` when it cannot be reached.
    """

    def __init__(
        self,
        shuffle_id: str,
        run_id: int,
        holders: list[str],
        message_nbytes: int,
        spec: ShuffleSpec,
        store: PieceStore,
        me: str,
        ask: Ask,
        settings: ShuffleSettings,
    ) -> None:
        self.shuffle_id = shuffle_id
        self.run_id = run_id
        self.holders = holders
        self.spec = spec
        self.store = store
        self.ended = asyncio.Event()
        self.end_reason = ""
        self._me = me
        self._message_nbytes = message_nbytes
        self._ask_peer = ask
        self._settings = settings
        self._seen: set[tuple[int, int]] = set()
        self._loop = asyncio.get_running_loop()

    def holder_of(self, partition: int) -> str:
        """Address of the worker that holds a partition."""
        return self.holders[partition % len(self.holders)]

    # ---------------------------------------------------------------- in a task's thread

    def transfer(self, data: Any, source: int) -> int:
        """Split an input and send its pieces to their holders; returns when all have got theirs how many bytes that
        were.

        Raises
        ------
        RunEndedError
            The run ended meanwhile.
        ShuffleFailedError
            A holder could not take its pieces, or cannot be reached.
        """
        limit = self._message_nbytes
        waiting: dict[str, tuple[list[Piece], int]] = {}
        on_the_way: deque[concurrent.futures.Future[Any]] = deque()
        number = nbytes_sent = 0

        def post(holder: str, pieces: list[Piece]) -> None:
            nonlocal number, nbytes_sent
            while len(on_the_way) >= self._settings.concurrency:
                on_the_way.popleft().result()
            index, content = pack(pieces)
            message = {
                "id": self.shuffle_id,
                "run_id": self.run_id,
                "source": source,
                "number": number,
                "index": index,
                "data": Payload(b"", Attached([content])),
            }
            number += 1
            nbytes_sent += len(content)
            sending = self.ask(holder, "shuffle_receive", message)
            on_the_way.append(asyncio.run_coroutine_threadsafe(sending, self._loop))

        try:
            for piece in self.spec.split(data, source):
                holder = self.holder_of(piece.partition)
                pieces, nbytes = waiting.get(holder, ([], 0))
                pieces.append(piece)
                nbytes += piece.nbytes
                waiting[holder] = (pieces, nbytes)
                if nbytes >= limit:
                    del waiting[holder]
                    post(holder, pieces)
            for holder, (pieces, _) in waiting.items():
                post(holder, pieces)
            while on_the_way:
                on_the_way.popleft().result()
        finally:
            for sending in on_the_way:
                sending.cancel()
        return nbytes_sent

    # ---------------------------------------------------------------- on the loop

    def check_open(self) -> None:
        """Raise ``RunEndedError`` when the run is over."""
        if self.ended.is_set():
            raise RunEndedError(self.end_reason)

    async def ask(self, holder: str, op: str, message: dict[str, Any]) -> Any:
        """Ask a holder, again and again while it cannot be reached and the scheduler has not given the run up."""
        settings = self._settings
        delay_s = settings.min_delay_s
        for attempt in range(settings.n_retries + 1):
            self.check_open()
            try:
                return await self._ask_once(holder, op, message)
            except (CommClosedError, OSError) as error:
                if attempt == settings.n_retries:
                    text = f"{holder} holds a part of shuffle {self.shuffle_id} and cannot be reached: {error}"
                    raise ShuffleFailedError(text) from error
            try:
                async with asyncio.timeout(delay_s):
                    await self.ended.wait()
            except TimeoutError:
                pass
            delay_s = min(2 * delay_s, settings.max_delay_s)
        raise AssertionError("unreachable")

    async def _ask_once(self, holder: str, op: str, message: dict[str, Any]) -> Any:
        answer = await self._ask_peer(holder, op, message)
        if isinstance(answer, dict) and answer.get("status") == "ended":
            # The holder has heard of the end before us, or has not heard of the beginning of a later run.
            raise RunEndedError(answer.get("reason", ""))
        return answer

    async def receive(self, source: int, number: int, index: Any, data: Payload) -> None:
        """Keep a message's pieces; one that has come before is dropped."""
        self.check_open()
        if (source, number) in self._seen:
            return
        self._seen.add((source, number))
        content = data.attached.buffers[0] if data.attached is not None else data.data
        nbytes = memoryview(content).nbytes
        await self.store.add(list(unpack(source, index, content)), nbytes)

    async def share(self, partition: int) -> Share:
        """Where a partition that lies here can be read."""
        self.check_open()
        return await self.store.share(partition)

    async def end(self, reason: str) -> None:
        """No more: wake who waits, remove what is held."""
        self.end_reason = self.end_reason or reason
        self.ended.set()
        await self.store.close()
