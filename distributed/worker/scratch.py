"""The worker's directory for files: made at start, removed at close. Shell."""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import tempfile
from pathlib import Path

from distributed.base import settings

_COMMON_NAME = "dask-scratch-space"


def make_directory(local_directory: str | os.PathLike[str] | None) -> str:
    """A fresh private directory for one worker.

    Parameters
    ----------
    local_directory :
        Where it is made (inside a directory that workers share); None: below dask's ``temporary-directory``, or where
        this system keeps temporary files.

    Raises
    ------
    OSError
        It cannot be made there: the text names the path and the reason.
    """
    if local_directory is None:
        local_directory = settings.get("temporary-directory", None)
    try:
        if local_directory is None:
            return _kept(tempfile.mkdtemp(prefix="dask-worker-"))
        base = Path(local_directory).expanduser().absolute() / _COMMON_NAME
        base.mkdir(parents=True, exist_ok=True)
        return _kept(tempfile.mkdtemp(prefix="worker-", dir=base))
    except OSError as error:
        number = error.errno or errno.EIO
        where = os.fspath(local_directory) if local_directory is not None else tempfile.gettempdir()
        text = f"the worker's local_directory {where!r} cannot be used: {os.strerror(number)}"
        raise type(error)(number, text, error.filename) from error


_mine: dict[str, int] = {}
"""Directories made here and not yet removed, and the process that made them."""


def _kept(path: str) -> str:
    _mine[path] = os.getpid()
    return path


@atexit.register
def _remove_all() -> None:
    """The program ends in haste."""
    for path, pid in list(_mine.items()):
        if pid == os.getpid():  # not in a copy that a task has made of this process
            remove_directory(path)


def remove_directory(path: str) -> None:
    """Remove it with all that is in it, and the shared directory around it when it is the last."""
    _mine.pop(path, None)
    shutil.rmtree(path, ignore_errors=True)
    parent = Path(path).parent
    if parent.name == _COMMON_NAME:
        try:
            parent.rmdir()
        except OSError:
            pass
