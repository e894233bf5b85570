"""Brings a whole directory to every worker, or to the scheduler: :class:`UploadDirectory`, and
:class:`SchedulerUploadFile` for one file. The content travels as a zip in memory."""

from __future__ import annotations

import importlib
import io
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distributed.messages.payload import ErrorInfo
from distributed.plugins.scheduler import SchedulerPlugin
from distributed.plugins.worker import UploadFile, WorkerPlugin
from distributed.protocol.error_info import unpack_error

MODES = ("all", "scheduler", "workers")
SKIP_WORDS = (".git", ".github", ".pytest_cache", "tests", "docs")


def is_bytecode(path: str) -> bool:
    """Whether a file is compiled Python, which other interpreters cannot use."""
    return os.path.splitext(path)[1] == ".pyc"


class UploadDirectory(SchedulerPlugin):
    """Copies a directory into the local directory of every worker, also of those that join later.

    The copy has the directory's own name, and is importable as a package of that name.

    Parameters
    ----------
    path
        The directory, on the client's machine; read when the plugin is made.
    restart_workers
        Start the worker processes anew once the copy is in place, so that none goes on with an older one.
    update_path
        Whether modules inside of it are importable by their own names too.
    skip_words
        Files whose path has one of these as a part stay away.
    skip
        Functions of a path; where one says true, the file stays away.
    mode
        ``workers``, ``scheduler`` or ``all``.

    Raises
    ------
    NotADirectoryError
        ``path`` is no directory.
    ValueError
        For any other ``mode``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        restart_workers: bool = False,
        update_path: bool = False,
        skip_words: Sequence[str] = SKIP_WORDS,
        skip: Sequence[Callable[[str], bool]] = (is_bytecode,),
        mode: str = "workers",
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        root = Path(path).expanduser().resolve()
        if not root.is_dir():
            raise NotADirectoryError(f"{os.fspath(path)!r} is not a directory on this machine")
        self.directory = root.name
        self.name = f"upload-directory-{root.name}"
        self.restart_workers = bool(restart_workers)
        self.mode = mode
        self._copy = _Copy(root.name, zipped(root, skip_words, skip), bool(update_path))
        self._place = ""

    async def start(self, scheduler: Any) -> None:
        """Unpack it here, and hand it to the workers."""
        if self.mode != "workers":
            self._place = tempfile.mkdtemp(prefix="distributed-upload-")
            self._copy.unpack(self._place)
        if self.mode == "scheduler":
            return
        answers = await scheduler.register_worker_plugin(plugin=self._copy, name=self.name)
        for answer in answers.values():
            if isinstance(answer, ErrorInfo):
                raise unpack_error(answer)[0]
        if self.restart_workers:
            await scheduler.restart_workers()

    async def close(self) -> None:
        """Remove the scheduler's own copy."""
        if self._place:
            self._copy.forget(self._place)
            shutil.rmtree(self._place, ignore_errors=True)
            self._place = ""


class _Copy(WorkerPlugin):
    """The zipped directory, unpacked into each worker's local directory."""

    def __init__(self, directory: str, data: bytes, update_path: bool) -> None:
        self.directory = directory
        self.data = data
        self.update_path = update_path

    def entries(self, place: str) -> list[str]:
        """What imports look through."""
        return [os.path.join(place, self.directory), place] if self.update_path else [place]

    def unpack(self, place: str) -> None:
        with zipfile.ZipFile(io.BytesIO(self.data)) as archive:
            archive.extractall(place)
        for entry in reversed(self.entries(place)):
            if entry not in sys.path:
                sys.path.insert(0, entry)
        importlib.invalidate_caches()

    def forget(self, place: str) -> None:
        for entry in self.entries(place):
            if entry in sys.path:
                sys.path.remove(entry)

    def setup(self, worker: Any) -> None:
        self.unpack(worker.local_directory)

    def teardown(self, worker: Any) -> None:
        self.forget(worker.local_directory)


class SchedulerUploadFile(SchedulerPlugin):
    """Brings one file to the scheduler; ``.py``, ``.zip`` and ``.egg`` become importable there.

    Parameters
    ----------
    filepath
        The file, on the client's machine; read when the plugin is made.
    load
        Whether the scheduler imports it at once.
    """

    def __init__(self, filepath: str | os.PathLike[str], load: bool = True) -> None:
        self.file = UploadFile(filepath, load)
        self.name = f"scheduler-{self.file.name}"
        self._place = ""

    async def start(self, scheduler: Any) -> None:
        """Write it to a directory of its own, and import it."""
        self._place = tempfile.mkdtemp(prefix="distributed-upload-")
        path = Path(self._place) / self.file.filename
        path.write_bytes(self.file.data)
        if path.suffix in (".py", ".zip", ".egg"):
            sys.path.insert(0, self._entry(path))
            importlib.invalidate_caches()
            if self.file.load and path.suffix == ".py":
                sys.modules.pop(path.stem, None)
                importlib.import_module(path.stem)

    async def close(self) -> None:
        """Remove it."""
        if self._place:
            entry = self._entry(Path(self._place) / self.file.filename)
            if entry in sys.path:
                sys.path.remove(entry)
            shutil.rmtree(self._place, ignore_errors=True)
            self._place = ""

    @staticmethod
    def _entry(path: Path) -> str:
        return str(path.parent) if path.suffix == ".py" else str(path)


def zipped(root: Path, skip_words: Sequence[str], skip: Sequence[Callable[[str], bool]]) -> bytes:
    """The files below ``root`` as a zip, under paths that start with its name."""
    words = frozenset(skip_words)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            if path.is_dir() or words.intersection(inside.parts) or any(told(str(path)) for told in skip):
                continue
            archive.write(path, os.path.join(root.name, inside))
    return content.getvalue()
