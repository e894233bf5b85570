"""What workers ask the scheduler about shuffles. Pure data."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Ask(Struct):
    """A worker asks the scheduler: ``get`` (open a run?), ``barrier`` (of these runs), ``check``."""

    number: int
    op: str
    shuffle: str
    may_open: bool = False
    run_ids: tuple[int, ...] = ()


class Answer(Struct):
    """The answer: for ``get`` (run id, holders) or None, for ``barrier`` whether it is passed."""

    number: int
    value: Any
