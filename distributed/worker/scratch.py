"""The worker's directory for files: made at start, removed at close. Shell."""

from __future__ import annotations

import atexit
import errno
import logging
import os
import shutil
import tempfile
from pathlib import Path

from distributed.base import settings

logger = logging.getLogger("distributed.worker")

_COMMON_NAME = "dask-scratch-space"


def make_directory(local_directory: str | os.PathLike[str] | None) -> str:
    """A fresh private directory for one worker.

    Parameters
    ----------
    local_directory :
        Where it is made (inside a directory that workers share); None: below dask's ``temporary-directory``, or, when
        that cannot be, where this system keeps temporary files.

    Raises
    ------
    OSError
        It cannot be made there: the text names the path and the reason.
    """
    if local_directory is not None:
        return _kept(_make_in(local_directory, "the worker's local_directory"))
    configured = settings.get("temporary-directory", None)
    if configured is not None:
        try:
            return _kept(_make_in(configured, "the configured temporary-directory"))
        except OSError as error:
            logger.warning("%s; using %s instead", error.strerror, tempfile.gettempdir())
    try:
        return _kept(tempfile.mkdtemp(prefix="dask-worker-"))
    except OSError as error:
        raise _told(error, "the system's place for temporary files", tempfile.tempdir or "") from error


def _make_in(where: str | os.PathLike[str], what: str) -> str:
    try:
        base = Path(where).expanduser().absolute() / _COMMON_NAME
        base.mkdir(parents=True, exist_ok=True)
        try:
            return tempfile.mkdtemp(prefix="worker-", dir=base)
        except PermissionError:
            # Another user was here first: have one of our own beside it.
            base = base.with_name(f"{_COMMON_NAME}-{os.getuid()}")
            base.mkdir(exist_ok=True)
            return tempfile.mkdtemp(prefix="worker-", dir=base)
    except OSError as error:
        raise _told(error, what, os.fspath(where)) from error


def _told(error: OSError, what: str, where: str) -> OSError:
    number = error.errno or errno.EIO
    return type(error)(number, f"{what} {where!r} cannot be used: {os.strerror(number)}", error.filename)


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
    if parent.name.startswith(_COMMON_NAME):
        try:
            parent.rmdir()
        except OSError:
            pass
