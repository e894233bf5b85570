"""From the bytes of a task to something that can be called: its function, its arguments, its inputs. Shell.

Called in the thread that is going to run the task. ``RunningTask.opening`` says meanwhile what is being unpickled, so
that a pickle that hangs can be named. Must not run the task.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

from distributed.base.errors import DeserializeError
from distributed.base.keys import Key, user_key
from distributed.messages.payload import FunctionBlob
from distributed.protocol import serialize
from distributed.protocol.functions import forget_opened
from distributed.protocol.opening import open_in_turn
from distributed.protocol.program import Program
from distributed.worker.data_store import DataStore, Sealed
from distributed.worker.inputs import fill_arguments
from distributed.worker.job import InputLost, Job, Unopened
from distributed.worker.outcomes import described
from distributed.worker.runtime import RunningTask
from distributed.worker.spill_file import SpillFile
from distributed.worker.state_machine.instructions import Execute

_OF_PICKLES = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)
"""What a pickle may raise when it is opened; ``TaskCancelled`` comes from elsewhere."""


class TaskOpener:
    """Knows the functions of one worker, and where its held values are opened.

    Parameters
    ----------
    store :
        Where held values are opened.
    worker :
        Whose address errors name.
    """

    def __init__(self, store: DataStore, worker: Any) -> None:
        self.store = store
        self.worker = worker
        self._blobs: dict[bytes, FunctionBlob] = {}
        self._loaded: dict[bytes, tuple[Callable[..., Any], bool]] = {}

    def define(self, blob: FunctionBlob) -> None:
        """Know a function from now on; it is unpickled by the first task that needs it."""
        self._blobs[blob.digest] = blob

    def forget_functions(self) -> None:
        """Unpickle every function anew when it is next needed (its module has been replaced)."""
        self._loaded.clear()
        forget_opened()

    def clear(self) -> None:
        """Let go of everything."""
        self._loaded.clear()
        self._blobs.clear()

    def is_coroutine(self, digest: bytes) -> bool:
        """Whether this function is known, by an earlier task, to be a coroutine function."""
        loaded = self._loaded.get(digest)
        return loaded is not None and loaded[1]

    def open_call(self, job: Job, task: RunningTask) -> tuple[Callable[..., Any], Any, Any]:
        """The function and its arguments, inputs filled in. Raises ``Unopened`` or ``InputLost``."""
        execute = job.execute
        loaded = self._loaded.get(execute.function)
        if loaded is None:
            task.opening = "its function"
            loaded = self._load_function(execute)
            task.opening = ""
        function = loaded[0]
        args: Any = ()
        kwargs: dict[str, Any] = {}
        is_program = type(function) is Program
        if execute.payload is not None:
            task.opening = "its arguments"
            try:
                found = serialize.loads(execute.payload)
            except _OF_PICKLES as error:
                raise Unopened(self._deserialize_error(execute.key, "the arguments", error)) from None
            task.opening = ""
            args, kwargs = ((found,), {}) if is_program else found
        for index, value in enumerate(job.inputs):
            if type(value) is Sealed or type(value) is SpillFile:
                self.open_input(job, index)
        if is_program:
            args = (args[0] if args else (), job.inputs)
        elif job.inputs:
            args, kwargs = fill_arguments(args, kwargs, job.inputs.__getitem__)
        return function, args, kwargs

    def open_graph_node(self, job: Job, task: RunningTask) -> tuple[Any, dict[Any, Any]]:
        """A ``dask`` graph node, and the values of its dependencies by key. Raises ``Unopened`` or ``InputLost``."""
        execute = job.execute
        assert execute.payload is not None
        task.opening = "its arguments"
        try:
            node = open_in_turn(execute.payload)
        except _OF_PICKLES as error:
            raise Unopened(self._deserialize_error(execute.key, "the task", error)) from None
        task.opening = ""
        return node, {user_key(key): self.open_input(job, i) for i, key in enumerate(execute.dependencies)}

    def open_input(self, job: Job, index: int) -> Any:
        """The value of one dependency."""
        value = job.inputs[index]
        kind = type(value)
        if kind is not Sealed and kind is not SpillFile:
            return value
        key = job.execute.dependencies[index]
        closed = value
        origin = f"received from {value.producer}," if value.producer else "read from disk,"
        text = f"its input {user_key(key)!r}, {origin}"
        job.task.opening = text
        try:
            value = job.inputs[index] = self.store.opened(value)
        except _OF_PICKLES as error:
            if isinstance(error, OSError) and kind is SpillFile:
                raise InputLost(closed, error) from None
            unopened = self._deserialize_error(job.execute.key, text, error, user_key(key), value.producer)
            raise Unopened(unopened) from None
        job.task.opening = ""
        return value

    def _load_function(self, execute: Execute) -> tuple[Callable[..., Any], bool]:
        blob = self._blobs.get(execute.function)
        if blob is None:
            raise RuntimeError(f"the function of task {user_key(execute.key)!r} has never reached this worker")
        try:
            function = serialize.loads_function(blob)
        except _OF_PICKLES as error:
            what = f"the function {blob.name}" if blob.name else "the function"
            raise Unopened(self._deserialize_error(execute.key, what, error)) from None
        loaded = self._loaded[execute.function] = (function, is_coroutine_function(function))
        return loaded

    def _deserialize_error(
        self, key: Key, what: str, cause: BaseException, culprit: Any = None, producer: str = ""
    ) -> DeserializeError:
        error = DeserializeError(
            f"task {user_key(key)!r} could not run: {what} could not be unpickled on worker "
            f"{getattr(self.worker, 'address', None)}: {described(cause)}",
            user_key(key) if culprit is None else culprit,
            producer,
        )
        error.__cause__ = cause
        error.__traceback__ = cause.__traceback__
        return error


def is_coroutine_function(function: Any) -> bool:
    """Whether calling ``function`` gives a coroutine, also through ``functools.partial`` and ``__call__``."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function):
        return True
    call = None if inspect.isroutine(function) or isinstance(function, type) else vars(type(function)).get("__call__")
    return call is not None and inspect.iscoroutinefunction(call)
