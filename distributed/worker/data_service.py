"""Serves the values of this worker to peers and clients, and takes in what clients scatter. Shell.

Values are pickled here, large ones in a thread. A value that cannot be pickled is answered by the error that says why.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any

from distributed.base.daemon_pool import DaemonThreadPool
from distributed.base.errors import SerializationError
from distributed.base.keys import Key, user_key
from distributed.comm.sockets import max_frame_bytes
from distributed.messages.payload import ErrorInfo, Payload
from distributed.protocol import serialize
from distributed.protocol.sizeof import sizeof
from distributed.rpc.connection import Connection
from distributed.rpc.lending import LEND_FROM, Loans
from distributed.worker.data_store import DataStore, Sealed
from distributed.worker.spill_file import SpillFile

logger = logging.getLogger("distributed.worker")

OFFLOAD_BYTES = 1 << 18
_BESIDE_A_VALUE = 4096
"""Bytes of a message with one value that are not the value."""
_KEYS_REMEMBERED = 1000
"""Values that have been lent: the second who asks for one gets it in shared memory, as does whoever comes then."""


class _ToLend(Payload, array_like=True):
    """What the peer shall read out of our memory."""


class DataService:
    """Reads and fills the data store for others.

    Parameters
    ----------
    nbytes_of :
        Size of a key as the state machine knows it (-1 unknown).
    """

    def __init__(self, store: DataStore, nbytes_of: Callable[[Key], int], is_inproc: bool) -> None:
        self.store = store
        self.is_inproc = is_inproc
        self.bytes_sent = 0
        self.n_answers = 0
        self.loans = Loans()
        self._lent_once: dict[Key, None] = {}
        self._nbytes_of = nbytes_of
        self._offload: DaemonThreadPool | None = None

    @property
    def offload(self) -> DaemonThreadPool:
        """The thread for pickling and unpickling outside of tasks."""
        if self._offload is None:
            self._offload = DaemonThreadPool(1, "Dask-Offload")
        return self._offload

    async def get_data(
        self, keys: Iterable[Key], connection: Connection, borrows: bool = False
    ) -> dict[Key, Payload | ErrorInfo | tuple[Any, ...]]:
        """The values of those keys that are here; live objects for a peer in this very process (inproc only).

        A peer that ``borrows`` reads a large value out of our memory, if it is the first that asks for it. For any
        other one with which we share memory it is put there, and stays: whoever asks next gets the same.
        """
        answer: dict[Key, Payload | ErrorInfo] = {}
        shares_memory = connection.shares_memory
        large: list[tuple[Key, Any]] = []
        on_disk: list[SpillFile] = []
        is_live = connection.same_process and self.is_inproc
        for key in keys:
            try:
                value = self.store.hold(key)
            except KeyError:
                continue
            if type(value) is SpillFile:
                on_disk.append(value)
            elif is_live:
                answer[key] = serialize.live(self.store.opened(value) if type(value) is Sealed else value)
            elif type(value) is Sealed and not (shares_memory and self._nbytes_of(key) >= OFFLOAD_BYTES):
                answer[key] = value.payload
            elif 0 <= self._nbytes_of(key) < OFFLOAD_BYTES:
                answer[key] = packed(key, value)
            else:
                large.append((key, value))
        if large:
            loop = asyncio.get_running_loop()
            pack = functools.partial(self._packed_near, borrows=borrows) if shares_memory else packed
            payloads = await loop.run_in_executor(self.offload, _one_by_one, pack, large)
            answer.update(payloads)
        if on_disk:
            answer.update(await asyncio.get_running_loop().run_in_executor(self.offload, _read, on_disk, is_live))
        if not is_live:
            self.bytes_sent += refuse_too_large(answer, max_frame_bytes())
        self.n_answers += 1
        lent = {key: self.loans.lend(connection, value) for key, value in answer.items() if type(value) is _ToLend}
        return {**answer, **lent} if lent else {**answer}

    def _packed_near(self, key: Key, value: Any, borrows: bool) -> Payload | ErrorInfo:
        """For a peer on this machine."""
        from distributed.protocol import shared_memory

        found = packed(key, value)
        if isinstance(found, ErrorInfo):
            return found
        if borrows and self._may_lend(key, found):
            return _ToLend(found.data, found.attached)
        payload = shared_memory.share(found)
        if payload is not found and (type(value) is Sealed or is_plain_array(value)):
            self.store.replace(key, value, payload)
        return payload

    def _may_lend(self, key: Key, payload: Payload) -> bool:
        """Whether the peer shall read ``payload`` itself: it is large, not shared yet, and nobody asked before."""
        attached = payload.attached
        if attached is None or attached.is_live or attached.nbytes < LEND_FROM or key in self._lent_once:
            return False
        from distributed.protocol import shared_memory

        if any(shared_memory.locate(buffer) is not None for buffer in attached.buffers):
            return False
        self._lent_once[key] = None
        if len(self._lent_once) > _KEYS_REMEMBERED:
            del self._lent_once[next(iter(self._lent_once))]
        return True

    def expect(self, packages: Iterable[str]) -> None:
        """Values of these packages are on their way: import meanwhile what will be needed to open them."""
        for name in packages:
            if name not in sys.modules:
                self.offload.submit(_load, name)

    async def take_in(self, data: dict[Key, Payload], producer: str) -> dict[Key, int]:
        """Put what came from ``producer`` into the store; the size of each key."""
        nbytes = {key: arrived_nbytes(payload) for key, payload in data.items()}
        if self.store.is_custom:
            data = await asyncio.to_thread(self.store.opened_apart, data, producer)
        for key, payload in data.items():
            self.store.seal(key, payload, producer)
        return nbytes

    def close(self) -> None:
        """End the thread."""
        if self._offload is not None:
            self._offload.shutdown(wait=False, cancel_futures=True)


def _load(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:  # whoever opens the value is told
        logger.debug("Cannot import %s before it is needed: %s", name, error)


def _one_by_one(pack: Callable[[Key, Any], Payload | ErrorInfo], pairs: list[tuple[Key, Any]]) -> dict[Key, Any]:
    """Takes the list apart, so that what a packed value has taken the place of goes before the next one is packed."""
    packed_ones = {}
    for _ in range(len(pairs)):
        key, value = pairs.pop(0)
        packed_ones[key] = pack(key, value)
        del value
    return packed_ones


def _read(files: list[SpillFile], is_live: bool) -> dict[Key, Payload | ErrorInfo]:
    """Values that are on disk: their bytes in the file, without bringing them into memory. What cannot be read is left
    out, as if it were not here; the asker looks elsewhere."""
    found: dict[Key, Payload | ErrorInfo] = {}
    for file in files:
        try:
            found[file.key] = serialize.live(file.open()) if is_live else file.payload()
        except OSError as error:
            logger.warning("The value of %r on disk cannot be read: %s", user_key(file.key), error)
        except BaseException as error:
            found[file.key] = serialize.pack_error(error)
    return found


def packed(key: Key, value: Any) -> Payload | ErrorInfo:
    """The value of ``key`` as bytes, or why that cannot be."""
    try:
        return value.payload if type(value) is Sealed else serialize.dumps(value, "result")
    except SerializationError as error:
        text = f"the value of {user_key(key)!r} cannot be sent: {error}"
        return serialize.pack_error(SerializationError(text, error.path))
    except BaseException as error:
        return serialize.pack_error(error)


def is_plain_array(value: Any) -> bool:
    """Whether opening the bytes of ``value`` costs nothing and gives the same: an array, and no object in it."""
    kind = type(value)
    return kind.__module__ == "numpy" and kind.__name__ == "ndarray" and not value.dtype.hasobject


def refuse_too_large(answer: dict[Key, Payload | ErrorInfo], limit: int) -> int:
    """Put an error in the place of each value that no message may hold, so that the others get through. Returns the
    bytes of these."""
    total = 0
    for key, value in answer.items():
        if not isinstance(value, Payload):
            continue
        nbytes = value.nbytes
        if nbytes + _BESIDE_A_VALUE <= limit:
            total += nbytes
        else:
            error = ValueError(
                f"the value of {user_key(key)!r} has {nbytes} bytes, too large to be sent: the limit is {limit} "
                "(setting distributed.comm.max-frame-bytes, which must be raised at both ends)"
            )
            answer[key] = serialize.pack_error(error)
    return total


def arrived_nbytes(payload: Payload) -> int:
    """How much memory what has arrived takes."""
    attached = payload.attached
    return sizeof(attached.live) if attached is not None and attached.is_live else payload.nbytes
