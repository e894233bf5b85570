"""The base class of plugins that run in workers, and :class:`UploadFile`. Empty hooks, and data on its way."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


class WorkerPlugin:
    """Code that runs in every worker, also in those that join later. Register it with ``client.register_plugin``.

    The instance is pickled to the workers. ``setup`` and ``teardown`` may be coroutine functions.

    Attributes
    ----------
    name
        What the plugin is called; registering another of the same name replaces it.
    idempotent
        Whether registering it again under the same name does nothing.

    Examples
    --------
    >>> class Scratch(WorkerPlugin):
    ...     name = "scratch"
    ...     def setup(self, worker):
    ...         os.makedirs(os.path.join(worker.local_directory, "scratch"))
    """

    name: str | None = None
    idempotent: bool = False

    def setup(self, worker: Any) -> Any:
        """The plugin was added to ``worker``, before it runs tasks if the worker is new."""

    def teardown(self, worker: Any) -> Any:
        """The worker closes, or the plugin is removed."""

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """A task of this worker went from state ``start`` to ``finish``."""


class SetupCallback(WorkerPlugin):
    """Calls a function when it reaches a worker, with ``dask_worker=`` if the function takes that.

    Parameters
    ----------
    callback
        What to call; None: nothing.
    """

    def __init__(self, callback: Callable[..., Any] | None) -> None:
        self.callback = callback

    def setup(self, worker: Any) -> Any:
        """Call it."""
        if self.callback is None:
            return None
        if "dask_worker" in inspect.signature(self.callback).parameters:
            return self.callback(dask_worker=worker)
        return self.callback()


class UploadFile(WorkerPlugin):
    """Brings a file to every worker, into its directory; ``.py``, ``.zip`` and ``.egg`` become importable.

    Parameters
    ----------
    filepath
        The file, on the client's machine; read when the plugin is made.
    load
        Whether workers import it (again) at once.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    """

    filename: str
    data: bytes
    load: bool

    def __init__(self, filepath: str | os.PathLike[str], load: bool = True) -> None:
        path = Path(filepath)
        self._fill(path.name, path.read_bytes(), load)

    @classmethod
    def from_bytes(cls, filename: str, data: bytes, load: bool = True) -> UploadFile:
        """The same for a file whose content is at hand; only the last part of ``filename`` counts."""
        plugin = cls.__new__(cls)
        plugin._fill(os.path.basename(filename.replace("\\", "/")), data, load)
        return plugin

    def _fill(self, filename: str, data: bytes, load: bool) -> None:
        if filename in ("", ".", ".."):
            raise ValueError(f"{filename!r} is no name of a file")
        self.filename = filename
        self.name = f"upload-file-{filename}"
        self.data = data
        self.load = load

    async def setup(self, worker: Any) -> None:
        """Hand it to the worker as an upload of its own."""
        answer = worker.upload_file(self.filename, self.data, self.load)
        if inspect.isawaitable(answer):
            await answer
