"""The worker's directory for files: made at start, removed at close; those of the dead are removed too. Shell.

Beside each directory lies a file of its name with ``.lock`` behind, which its process keeps locked. The kernel lets go
of that lock however the process ends, so a directory whose lock is free belongs to nobody. This holds where process
numbers do not: after a reboot, in other containers, on other machines with the same disk.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from distributed.base import settings

logger = logging.getLogger("distributed.worker")

_COMMON_NAME = "dask-scratch-space"
_PREFIX = "worker-"
_PREFIX_ALONE = "dask-worker-"
_LOCK = ".lock"


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
        return _make_in(local_directory, "the worker's local_directory")
    configured = settings.get("temporary-directory", None)
    if configured is not None:
        try:
            return _make_in(configured, "the configured temporary-directory")
        except OSError as error:
            logger.warning("%s; using %s instead", error.strerror, tempfile.gettempdir())
    try:
        return _make_locked(_PREFIX_ALONE, tempfile.gettempdir())
    except OSError as error:
        raise _told(error, "the system's place for temporary files", tempfile.tempdir or "") from error


def _make_in(where: str | os.PathLike[str], what: str) -> str:
    try:
        base = Path(where).expanduser().absolute() / _COMMON_NAME
        base.mkdir(parents=True, exist_ok=True)
        try:
            return _make_locked(_PREFIX, base)
        except PermissionError:
            # Another user was here first: have one of our own beside it.
            base = base.with_name(f"{_COMMON_NAME}-{os.getuid()}")
            base.mkdir(exist_ok=True)
            return _make_locked(_PREFIX, base)
    except OSError as error:
        raise _told(error, what, os.fspath(where)) from error


def _told(error: OSError, what: str, where: str) -> OSError:
    number = error.errno or errno.EIO
    return type(error)(number, f"{what} {where!r} cannot be used: {os.strerror(number)}", error.filename)


_mine: dict[str, tuple[int, int]] = {}
"""Directories made here and not yet removed: the process that made them, and the descriptor that holds the lock."""


def _make_locked(prefix: str, where: str | os.PathLike[str]) -> str:
    """First the lock, then the directory: so none is ever seen that nobody has locked yet."""
    while True:
        descriptor, lock = tempfile.mkstemp(prefix=prefix, suffix=_LOCK, dir=where)
        try:
            _lock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                path = lock.removesuffix(_LOCK)
                os.mkdir(path, 0o700)
                _mine[path] = (os.getpid(), descriptor)
                return path
        except BaseException:
            os.close(descriptor)
            Path(lock).unlink(missing_ok=True)
            raise
        os.close(descriptor)  # it was found between its birth and its lock, and taken for a dead one's


def find_abandoned(path: str) -> list[str]:
    """The directories beside ``path`` whose process is gone, of this user."""
    directory = Path(path)
    prefix = _PREFIX if directory.parent.name.startswith(_COMMON_NAME) else _PREFIX_ALONE
    found: list[str] = []
    for lock in directory.parent.glob(f"{prefix}*{_LOCK}"):
        with _taken(lock) as free:
            if free:
                found.append(str(lock).removesuffix(_LOCK))
    return found


def remove_abandoned(paths: Iterable[str]) -> None:
    """Remove what :func:`find_abandoned` has found. Blocking: there may be much to remove."""
    for path in paths:
        lock = Path(path + _LOCK)
        with _taken(lock) as free:
            if free:
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(path)
                    logger.info("Removed %s, which a worker that has died had left", path)
                lock.unlink(missing_ok=True)  # last: what could not be removed is tried again


@contextlib.contextmanager
def _taken(lock: Path) -> Iterator[bool]:
    """Whether its process is gone; while this is looked at nobody else takes it."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        yield os.fstat(descriptor).st_uid == os.getuid() and _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        logger.warning("Cannot remove what a worker that has died has left: %s", error)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, how: int) -> bool:
    """Whether it is ours now. Some file systems have no locks: what lies there is never taken for abandoned."""
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        return False
    return True


@atexit.register
def _remove_all() -> None:
    """The program ends in haste."""
    for path, (pid, _) in list(_mine.items()):
        if pid == os.getpid():  # not in a copy that a task has made of this process
            remove_directory(path)


def remove_directory(path: str) -> None:
    """Remove it with all that is in it, and the shared directory around it when it is the last."""
    _, descriptor = _mine.pop(path, (0, None))
    shutil.rmtree(path, ignore_errors=True)
    Path(path + _LOCK).unlink(missing_ok=True)
    if descriptor is not None:
        os.close(descriptor)
    parent = Path(path).parent
    if parent.name.startswith(_COMMON_NAME):
        try:
            parent.rmdir()
        except OSError:
            pass
