"""Large values read out of the memory of the process that has them, over the link by which they were asked for. Shell.

The holder answers ``get_data`` with *loans*: where the buffers of a value lie in its memory, where it keeps them. The
asker copies them (``protocol.process_memory``) and says so by ``end_loans``. Only when the holder then confirms
that they were there all the time are they used. What cannot be read is asked for anew, as bytes, and nothing is
borrowed over that connection any more.

Which process lies at the other end is what the kernel says of a unix socket (``Comm.peer_pid``), never what the peer
says; the peer names places in its own memory only, and the bytes of one of them, by which it is known to be the right
one. docs/decisions/0008-shared-memory.md says why it is so and not otherwise.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from distributed.base.daemon_pool import DaemonThreadPool
from distributed.base.keys import Key
from distributed.comm.sockets import max_frame_bytes
from distributed.messages.payload import Attached, Payload
from distributed.protocol.buffers import allocate
from distributed.rpc.connection import Connection

logger = logging.getLogger("distributed.comm")

LEND_FROM = 32 << 20
"""Bytes of a value from which on it is lent. Smaller ones cost less in shared memory."""
_PROBE_BYTES = 16
_N_THREADS = 2


class Loan(Struct, array_like=True):
    """A value that its holder keeps in place, to be read there.

    number : of this loan, on the connection
    probe, probe_address : bytes that lie in the holder's memory, and where
    data : the pickle
    places : address and length of each buffer beside it
    """

    number: int
    probe: bytes
    probe_address: int
    data: bytes
    places: list[tuple[int, int]]


# ---------------------------------------------------------------- the holder's half


class Loans:
    """What this process has lent, by connection: it stays alive until the asker has read it or is gone."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._lent: dict[Connection, dict[int, Payload]] = {}
        self._probe = bytearray(os.urandom(_PROBE_BYTES))

    def __len__(self) -> int:
        return sum([len(payloads) for payloads in self._lent.values()])

    def lend(self, connection: Connection, payload: Payload) -> tuple[Any, ...]:
        """A :class:`Loan` of ``payload`` to the peer, as plain data."""
        from distributed.protocol import process_memory

        assert payload.attached is not None
        lent = self._lent.get(connection)
        if lent is None:
            lent = self._lent[connection] = {}
            connection.add_on_closed(lambda error: self._forget(connection))
        number = next(self._numbers)
        lent[number] = payload
        (probe,) = process_memory.places_of([self._probe])
        return number, bytes(self._probe), probe[0], payload.data, process_memory.places_of(payload.attached.buffers)

    def _forget(self, connection: Connection) -> None:
        self._lent.pop(connection, None)

    def end(self, connection: Connection, numbers: Iterable[int]) -> bool:
        """The peer needs these no longer; whether they were all kept until now."""
        lent = self._lent.get(connection, {})
        return None not in [lent.pop(number, None) for number in numbers]


# ---------------------------------------------------------------- the asker's half


async def get_data(connection: Connection, keys: list[Key], who: str) -> Any:
    """Ask the peer for the values of ``keys``: ``{key: Payload or ErrorInfo}``.

    Raises what ``Connection.request`` raises.
    """
    asked = {"keys": keys, "who": who}
    if not can_borrow(connection):
        return await connection.request("get_data", asked)
    answer = await connection.request("get_data", asked | {"borrows": True})
    lent = {key: value for key, value in answer.items() if type(value) is tuple} if type(answer) is dict else {}
    if not lent:
        return answer
    try:
        answer.update(await _borrow(connection, {key: _checked(value) for key, value in lent.items()}))
    except OSError as error:
        if connection.closed:
            raise
        logger.debug("%s lends nothing more: %s", connection.peer_address, error)
        connection.borrows = False
        answer.update(await connection.request("get_data", asked | {"keys": list(lent)}))
    return answer


def can_borrow(connection: Connection) -> bool:
    """Whether the peer's memory may be read, as far as nobody has tried."""
    if not (connection.borrows and connection.shares_memory and connection.comm.peer_pid):
        return False
    from distributed.protocol import process_memory

    return process_memory.supported()


def _checked(value: tuple[Any, ...]) -> Loan:
    try:
        return msgspec.convert(value, Loan)
    except msgspec.ValidationError as error:
        raise OSError(f"a loan that is none: {error}") from None


async def _borrow(connection: Connection, loans: dict[Key, Loan]) -> dict[Key, Payload]:
    """Copies of the values that were lent. Raises OSError when they cannot be read."""
    numbers = [loan.number for loan in loans.values()]
    try:
        found = await _read(connection.comm.peer_pid, loans)
    except BaseException:  # also when nobody waits for it any more: the peer must not keep it
        if not connection.closed:
            connection.tell("end_loans", {"numbers": numbers})
        raise
    if not await connection.request("end_loans", {"numbers": numbers}):
        raise OSError("what was lent has been withdrawn")
    return found


async def _read(pid: int, loans: dict[Key, Loan]) -> dict[Key, Payload]:
    from distributed.protocol import process_memory

    lengths = [place[1] for loan in loans.values() for place in loan.places]
    if min(lengths, default=0) < 0 or sum(lengths) > max_frame_bytes():
        raise OSError(f"loans of {sum(lengths)} bytes; the limit is {max_frame_bytes()} (comm.max-frame-bytes)")
    for loan in loans.values():
        if process_memory.read_bytes(pid, loan.probe_address, len(loan.probe)) != loan.probe:
            raise OSError(f"process {pid} is not the one that lends")
    found: dict[Key, Payload] = {}
    reading = process_memory.Reading(pid)
    for key, loan in loans.items():
        buffers = []
        for address, nbytes in loan.places:
            buffers.append(buffer := _allocated(nbytes))
            reading.add(buffer, address)
        found[key] = Payload(loan.data, Attached(buffers))
    loop = asyncio.get_running_loop()
    threads = DaemonThreadPool(_N_THREADS, "Dask-Borrow")  # to begin them is nothing beside what they copy
    try:
        await asyncio.gather(*[loop.run_in_executor(threads, reading.run) for _ in range(_N_THREADS)])
    finally:
        threads.shutdown(wait=False)
    return found


def _allocated(nbytes: int) -> memoryview:
    try:
        return allocate(nbytes)
    except (MemoryError, OverflowError, ValueError) as error:
        raise OSError(f"no memory for a value of {nbytes} bytes: {error}") from None
