"""The task that carries the description of a shuffle through a graph."""

from __future__ import annotations

from typing import Any

from dask._task_spec import Task

from distributed.shuffle.spec import ShuffleSpec


class P2PBarrierTask(Task):  # type: ignore[misc]  # dask has no types
    """The task between the transfers and the unpacks of one shuffle.

    Parameters
    ----------
    key, func, args
        As of any task.
    spec : ShuffleSpec
        What the shuffle does.
    """

    spec: ShuffleSpec

    __slots__ = ("spec",)

    def __init__(self, key: Any, func: Any, /, *args: Any, spec: ShuffleSpec, **kwargs: Any) -> None:
        self.spec = spec
        super().__init__(key, func, *args, **kwargs)

    def copy(self) -> P2PBarrierTask:
        """The same task once more."""
        return type(self)(self.key, self.func, *self.args, spec=self.spec, **self.kwargs)

    def __repr__(self) -> str:
        return f"<P2PBarrierTask {self.key!r}>"

    @property
    def block_fusion(self) -> bool:
        """It stays a task of its own: its key is known outside of the graph."""
        return True
