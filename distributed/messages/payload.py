"""Bytes that the scheduler carries and never opens: functions, arguments, results, exceptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from msgspec import Struct


class Attached:
    """What travels beside a message instead of inside it: out-of-band buffers, or (in one process) the object itself.

    On a wire the codec sends each buffer as a segment of its own, without a copy, and puts their place into the
    message. Over inproc an ``Attached`` goes through as it is; ``live`` then holds the object, and nothing was
    serialised.
    """

    __slots__ = ("buffers", "live", "is_live")

    def __init__(self, buffers: Sequence[Any] = (), live: Any = None, is_live: bool = False) -> None:
        self.buffers = buffers
        self.live = live
        self.is_live = is_live

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers together; 0 for a live object."""
        return sum([b.nbytes if type(b) is memoryview else memoryview(b).nbytes for b in self.buffers])

    def __repr__(self) -> str:
        return "<Attached live>" if self.is_live else f"<Attached {len(self.buffers)} buffers>"


class Payload(Struct, array_like=True, omit_defaults=True):
    """One serialised object: a pickle stream and its out-of-band buffers. Opened only by ``protocol.serialize``."""

    data: bytes = b""
    attached: Attached | None = None

    @property
    def nbytes(self) -> int:
        return len(self.data) + (self.attached.nbytes if self.attached is not None else 0)


Arguments: TypeAlias = Payload | bytes
"""What a task is called with: a payload; its pickle alone when nothing lies beside it, as nearly always."""


def bare(payload: Payload) -> Arguments:
    """``payload`` as the arguments of a task."""
    return payload.data if payload.attached is None else payload


def size_of(arguments: Arguments | None) -> int:
    """Bytes."""
    if arguments is None:
        return 0
    return len(arguments) if isinstance(arguments, bytes) else arguments.nbytes


class ErrorInfo(Struct, array_like=True, omit_defaults=True):
    """An exception on its way from where it was raised to whoever asked.

    ``exception`` and ``traceback`` are pickles that only a client (or the worker of a dependent) opens; the texts are
    for everybody else, and for the case that the pickle cannot be made or opened. An error of the engine itself comes
    from a pure core, which pickles nothing: ``details`` are the arguments of its class, as plain data.
    """

    type_name: str
    message: str
    exception: Payload | None = None
    traceback: Payload | None = None
    traceback_text: str = ""
    details: dict[str, Any] | None = None


class FunctionBlob(Struct, array_like=True):
    """A function (or any callable), pickled once; tasks name it by ``digest``, a hash of the pickle."""

    digest: bytes
    payload: Payload
    name: str = ""
