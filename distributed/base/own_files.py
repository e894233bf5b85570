"""Files that this process has written and reads again: what lies at the path must still be the very same file. Shell.

Whoever owns a directory further up can put another directory in the place of ours, though ours is private. What would
be read from there might be unpickled. So a file is known by its number on its device, and its owner.
"""

from __future__ import annotations

import errno
import os

FileId = tuple[int, int, int]
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


def create(path: str) -> tuple[int, FileId]:
    """A new file for this user only: its descriptor, for writing, and what it is known by. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    return fd, _id_of(fd)


def reopen(path: str, file_id: FileId, flags: int = os.O_RDONLY) -> int:
    """A descriptor of the file that was created at ``path``.

    Raises
    ------
    PermissionError
        Another file has taken its place; nothing of it was read.
    OSError
        It is gone, or cannot be opened.
    """
    try:
        fd = os.open(path, flags | _FLAGS)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise _replaced(path) from None
    if _id_of(fd) != file_id:
        os.close(fd)
        raise _replaced(path)
    return fd


def _id_of(fd: int) -> FileId:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_uid


def _replaced(path: str) -> PermissionError:
    return PermissionError(errno.EPERM, "somebody has put another file in the place of the one written here", path)
