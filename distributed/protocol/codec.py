"""Messages to segments and back. The first segment is msgpack of the list of messages; the rest are buffers beside it.

An ``Attached`` becomes the place of its buffers among the segments, ``[start, count]``; when a batch would have more
segments than a frame may, it becomes the list of the buffers' bytes instead. Objects that msgpack does not know (in
fields of type Any: annotations, events) travel as pickles that nobody opens unasked (:class:`Pickled`). Pure, and
thread-safe: one codec may serve many connections.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from distributed.base.errors import FrameError, SerializationError
from distributed.messages.actors import ActorAnswer, ActorCall, ActorClaimed
from distributed.messages.client_to_scheduler import ClientToScheduler
from distributed.messages.control import Control
from distributed.messages.nanny import NannyToScheduler
from distributed.messages.payload import Attached, Payload
from distributed.messages.scheduler_to_client import SchedulerToClient
from distributed.messages.scheduler_to_worker import SchedulerToWorker
from distributed.messages.worker_to_scheduler import WorkerToScheduler
from distributed.protocol.frames import MAX_SEGMENTS
from distributed.protocol.payloads import buffers_of_live, dumps, materialised
from distributed.protocol.plain import Pickled

_PICKLED_EXT = 1

LINKS: dict[str, Any] = {
    "client_to_scheduler": Control | ClientToScheduler,
    "scheduler_to_client": Control | SchedulerToClient,
    "worker_to_scheduler": Control | WorkerToScheduler,
    "scheduler_to_worker": Control | SchedulerToWorker,
    "nanny_to_scheduler": Control | NannyToScheduler,
    "client_to_worker": Control | ActorCall | ActorClaimed,
    "worker_to_client": Control | ActorAnswer,
    "control": Control,
}
"""What may come over each link; every link has questions and answers."""


class _Context(threading.local):
    """The segments of the batch that this thread encodes or decodes now."""

    segments: Any = None


_context = _Context()
_pair_decoder = msgspec.msgpack.Decoder(tuple[bytes, list[bytes]])


def _encode_unknown(obj: Any) -> Any:
    if type(obj) is Attached:
        segments: list[Any] = _context.segments
        buffers = buffers_of_live(obj) if obj.is_live else obj.buffers
        start, count = len(segments), len(buffers)
        if start + count > MAX_SEGMENTS:
            return [bytes(buffer) for buffer in buffers]
        segments.extend(buffers)
        return start, count
    if getattr(obj, "shape", None) == () and type(obj).__module__ == "numpy":
        return obj.item()
    payload = materialised(obj.payload if type(obj) is Pickled else dumps(obj))
    buffers = () if payload.attached is None else payload.attached.buffers
    return msgspec.msgpack.Ext(_PICKLED_EXT, _encode_pair((payload.data, [bytes(buffer) for buffer in buffers])))


_encode_pair = msgspec.msgpack.Encoder().encode
_encode = msgspec.msgpack.Encoder(enc_hook=_encode_unknown).encode


def _decode_unknown(kind: type, wire: Any) -> Any:
    if kind is not Attached:
        raise NotImplementedError(f"nothing of type {kind!r} can arrive")
    segments: Sequence[Any] = _context.segments
    if type(wire) is not list:
        raise ValueError("an attachment that is none")
    if len(wire) == 2 and type(wire[0]) is int and type(wire[1]) is int:
        start, count = wire
        if start < 1 or count < 0 or start + count > len(segments):
            raise ValueError(f"an attachment names segments {start} to {start + count} of {len(segments)}")
        return Attached(segments[start : start + count])
    if not all(type(buffer) is bytes for buffer in wire):
        raise ValueError("an attachment that is none")
    return Attached([bytearray(buffer) for buffer in wire])


def _decode_ext(code: int, data: memoryview) -> Any:
    if code != _PICKLED_EXT:
        raise ValueError(f"unknown extension {code}")
    stream, buffers = _pair_decoder.decode(data)
    return Pickled(Payload(stream, Attached(buffers) if buffers else None))


class Codec:
    """Encodes any message; decodes messages of ``decode_type`` only.

    Parameters
    ----------
    decode_type
        Union of message structs.

    Examples
    --------
    >>> from distributed.messages.client_to_scheduler import ClientToScheduler, ReleaseKeys
    >>> codec = Codec(ClientToScheduler)
    >>> codec.decode(codec.encode([ReleaseKeys(["x"])]))
    [ReleaseKeys(keys=['x'])]
    """

    __slots__ = ("_decode",)

    def __init__(self, decode_type: Any) -> None:
        self._decode = msgspec.msgpack.Decoder(list[decode_type], dec_hook=_decode_unknown, ext_hook=_decode_ext).decode

    def encode(self, messages: list[Any]) -> list[Any]:
        """The segments of one frame: bytes of the messages, then the buffers beside them, uncopied.

        Raises ``SerializationError`` that names the message and what is wrong with it; nothing is half encoded.
        """
        outer = _context.segments
        segments: list[Any] = [b""]
        _context.segments = segments
        try:
            segments[0] = _encode(messages)
        except Exception as error:
            raise _encoding_error(messages, error) from error
        finally:
            _context.segments = outer
        return segments

    def decode(self, segments: Sequence[Any]) -> list[Any]:
        """The messages of one frame. Nothing of the first segment is kept; the buffers are those given.

        Raises ``FrameError`` for what is no list of messages of this link.
        """
        if not segments:
            raise FrameError("a frame without segments holds no messages")
        outer = _context.segments
        _context.segments = segments
        try:
            messages: list[Any] = self._decode(segments[0])
        except (msgspec.DecodeError, ValueError, TypeError, NotImplementedError, RecursionError) as error:
            raise FrameError(f"not a batch of messages of this link: {type(error).__name__}: {error}") from error
        finally:
            _context.segments = outer
        return messages


def codec_for(link: str) -> Codec:
    """The codec of the receiving end of a link of :data:`LINKS`, e.g. ``"client_to_scheduler"``."""
    try:
        return Codec(LINKS[link])
    except KeyError:
        raise ValueError(f"no link is called {link!r}; known: {', '.join(sorted(LINKS))}") from None


def _encoding_error(messages: list[Any], error: BaseException) -> SerializationError:
    """Find the message of the batch at fault, and the field in it."""
    for number, message in enumerate(messages):
        failure = _failure(message)
        if failure is None:
            continue
        op = getattr(getattr(message, "__struct_config__", None), "tag", None) or type(message).__name__
        for name in getattr(message, "__struct_fields__", ()):
            failure_of_field = _failure(getattr(message, name))
            if failure_of_field is not None:
                path = getattr(failure_of_field, "path", "")
                where = f"{op}.{name}" + (f" ({path})" if path else "")
                return SerializationError(
                    f"message {number} of {len(messages)} cannot be encoded: {where}: "
                    f"{type(failure_of_field).__name__}: {failure_of_field}",
                    where,
                )
        return SerializationError(f"message {number} ({op}) cannot be encoded: {type(failure).__name__}: {failure}", op)
    return SerializationError(f"a batch of {len(messages)} messages cannot be encoded: {type(error).__name__}: {error}")


def _failure(part: Any) -> BaseException | None:
    _context.segments = [b""]
    try:
        _encode(part)
    except Exception as error:
        return error
    return None
