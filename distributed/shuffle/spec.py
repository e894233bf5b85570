"""What every kind of shuffle has to be able to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from distributed.shuffle.pieces import Piece


class ShuffleSpec(Protocol):
    """How inputs are split and partitions put together. Pickled into the barrier task of its shuffle."""

    @property
    def disk(self) -> bool:
        """Whether pieces may go to disk."""

    def split(self, data: Any, source: int) -> Iterator[Piece]:
        """The pieces of input number ``source``; the same ones whenever the same data is split."""

    def join(self, partition: int, pieces: list[Piece]) -> Any:
        """The output partition that consists of these pieces, which are in the order of their inputs."""
