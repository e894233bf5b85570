"""The port that every transport fills: a :class:`Comm` carries batches of messages in order, a :class:`Listener`
makes them.

A Comm belongs to one event loop; every method is called on its thread (``send`` by any, where ``sends_from_threads``).
It carries lists of message structs, whole and in order, or it is closed: nothing is lost in between and nothing waits
for ever. It neither looks into messages nor retries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from msgspec import Struct

from distributed.comm.keys import Secret

OnBatch = Callable[[list[Any]], None]
OnClose = Callable[[BaseException | None], None]


class WireCodec(Protocol):
    """Messages to buffers and back; ``protocol.codec.Codec`` is one."""

    def encode(self, messages: list[Any]) -> list[Any]: ...

    def decode(self, segments: list[Any]) -> list[Any]: ...


class Comm(ABC):
    """One open connection.

    Attributes
    ----------
    local_address, peer_address: addresses of the two ends (of the peer's end of this link, not of its listener)
    role, peer_role: what the two ends said they are: client, worker, nanny or scheduler
    same_process: messages are handed over as the objects they are; nothing is serialised
    sends_from_threads: ``send`` may be called by any thread
    shares_memory: segments in shared memory (``protocol.shared_memory``) are not copied on their way
    peer_pid: the process at the other end, when it is one of this user on this machine and shares memory; else 0
    sent_bytes: bytes that ``send`` has accepted so far (an estimate where nothing is serialised)
    secret_id: id of the secret by which the two ends know each other; empty where none is needed
    received_bytes: bytes that have come so far, also those of a message that is not whole; 0 where nothing is
        serialised
    """

    local_address: str = ""
    peer_address: str = ""
    role: str = ""
    peer_role: str = ""
    same_process: ClassVar[bool] = False
    sends_from_threads: ClassVar[bool] = False
    shares_memory: bool = False
    peer_pid: int = 0
    secret_id: bytes = b""
    sent_bytes: int = 0
    received_bytes: int = 0

    @abstractmethod
    def start(self, on_batch: OnBatch, on_close: OnClose, codec: WireCodec) -> None:
        """Begin to receive. ``on_batch`` gets whole lists; ``on_close`` is called once, on a later turn of the loop,
        with None after an orderly end (by either side) and with the error otherwise."""

    @abstractmethod
    def send(self, batch: list[Struct]) -> None:
        """Send the messages of ``batch`` after everything sent before. Never blocks; what the peer is too slow for is
        buffered (see ``drain``). The list belongs to the comm afterwards. Raises CommClosedError when closed; an
        error of encoding leaves the comm as it was."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """No more can be sent."""

    @property
    @abstractmethod
    def pending_bytes(self) -> int:
        """Bytes accepted by ``send`` that have not left yet (an estimate where nothing is serialised)."""

    @abstractmethod
    async def drain(self) -> None:
        """Wait until little is pending. Raises CommClosedError when the comm closes meanwhile."""

    @abstractmethod
    async def close(self, timeout: float = 5.0) -> None:
        """Send what is pending, for at most ``timeout`` seconds, and end. Idempotent."""

    @abstractmethod
    def abort(self, error: BaseException | None = None) -> None:
        """End now; what is pending is lost. ``on_close`` gets ``error``. Idempotent."""

    @abstractmethod
    def pause_reading(self) -> None:
        """Stop receiving until ``resume_reading``: the peer's sends pile up at the peer. A hint; may do nothing."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Undo ``pause_reading``."""

    def __repr__(self) -> str:
        state = " (closed)" if self.closed else ""
        return f"<{type(self).__name__}{state} local={self.local_address} remote={self.peer_address}>"


OnComm = Callable[[Comm], None]


class Listener(ABC):
    """A place where connections arrive; ``on_comm`` is called, on the loop, with each one that has passed the
    handshake.

    Attributes
    ----------
    listen_address: where it listens, the port filled in (``tcp://0.0.0.0:8786``)
    contact_address: where others find it (``tcp://192.168.1.2:8786``)
    """

    listen_address: str = ""
    contact_address: str = ""

    @abstractmethod
    async def start(self) -> None:
        """Begin to listen. Raises OSError that names the address when that is impossible."""

    @abstractmethod
    def stop(self) -> None:
        """Stop listening; comms already made stay open. Leaves no socket and no file. Idempotent."""

    def accept_secrets(self, *secrets: Secret) -> None:  # noqa: B027
        """From now on newcomers must prove one of these; comms already made stay."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.contact_address or self.listen_address}>"
