"""A batch of messages to a list of buffers, and back.

The first buffer is the msgpack of the whole batch; out-of-band buffers follow, untouched. Inside the first, an
``Attached`` is ``(place of its first buffer, how many, [(which, method, bytes when expanded)])``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from distributed.base.errors import FrameError
from distributed.messages.payload import Attached
from distributed.protocol import compression, serialize


class Codec:
    """Encodes any messages; decodes those of ``decode_type`` (a union of Structs) and no others."""

    def __init__(self, decode_type: Any) -> None:
        self._buffers: list[Any] = []
        self._segments: Sequence[Any] = ()
        self._encoder = msgspec.msgpack.Encoder(enc_hook=self._attach)
        self._decoder = msgspec.msgpack.Decoder(list[decode_type], dec_hook=self._detach)

    def encode(self, messages: Sequence[Any]) -> list[Any]:
        """The buffers to send, the one with the messages first. Raises ``TypeError`` for what cannot be encoded."""
        self._buffers = buffers = [b""]
        try:
            buffers[0] = self._encoder.encode(messages)
        except (OverflowError, RecursionError, ValueError) as e:
            raise TypeError(f"a message cannot be encoded: {e}") from e
        finally:
            self._buffers = []
        return buffers

    def decode(self, segments: Sequence[Any]) -> list[Any]:
        """The messages. Raises ``FrameError`` for whatever is not a batch of the expected ones."""
        self._segments = segments
        try:
            messages: list[Any] = self._decoder.decode(segments[0])
        except FrameError:
            raise
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, IndexError) as e:
            raise FrameError(f"not a batch of the messages expected here: {e}") from None
        finally:
            self._segments = ()
        return messages

    def _attach(self, obj: Any) -> Any:
        if type(obj) is not Attached:
            raise TypeError(f"objects of type {type(obj).__name__} have no place in a message")
        buffers = obj.buffers
        if (
            obj.is_live
        ):  # it was meant to stay in this process: its pickle goes as the first buffer (see serialize.loads)
            payload = serialize.dumps(obj.live)
            buffers = [payload.data, *(payload.attached.buffers if payload.attached is not None else ())]
        method = compression.chosen()
        start = len(self._buffers)
        coded: list[tuple[int, str, int]] = []
        for i, buffer in enumerate(buffers):
            small = None
            if method is not None:
                raw = memoryview(buffer)
                small = compression.shrink(raw.cast("B") if raw.contiguous and raw.nbytes else raw, method)
                if small is not None:
                    coded.append((i, method, raw.nbytes))
            self._buffers.append(buffer if small is None else small)
        return (start, len(buffers), coded)

    def _detach(self, kind: type, obj: Any) -> Any:
        if kind is not Attached:
            raise FrameError(f"a message claims to hold a {kind.__name__}")
        try:
            start, count, coded = obj
            if not (0 < start <= start + count <= len(self._segments)):
                raise FrameError(f"a message refers to buffers {start} to {start + count} of {len(self._segments)}")
            buffers = list(self._segments[start : start + count])
            for i, method, nbytes in coded:
                buffers[i] = compression.expand(buffers[i], method, nbytes)
        except (TypeError, ValueError, IndexError):
            raise FrameError("a message refers to its buffers in an unknown way") from None
        return Attached(buffers)
