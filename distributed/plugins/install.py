"""Plugins that install packages on every machine of a cluster: :class:`PipInstall`, :class:`CondaInstall`, or any
function with :class:`InstallPlugin`. Runs the installers as programs of their own.

Several workers of one machine share an environment, so installers take turns there (a lock on a file), and one that
finds everything installed is done at once. They run in a thread: a worker or nanny stays responsive meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from distributed.messages.payload import ErrorInfo
from distributed.plugins.names import plugin_name
from distributed.plugins.nanny import NannyPlugin
from distributed.plugins.scheduler import SchedulerPlugin
from distributed.plugins.worker import WorkerPlugin
from distributed.protocol.error_info import unpack_error

logger = logging.getLogger("distributed.plugins")

_TAIL_LENGTH = 2000


class InstallPlugin(SchedulerPlugin):
    """Calls a function once in every worker process before it runs more tasks, also in workers that join later.

    Parameters
    ----------
    install_fn
        What to call, without arguments. It is pickled.
    restart_workers
        Call it in the nannies and start their worker processes anew behind it; for what a process cannot take in while
        it runs, such as a newer release of a package that is imported already. Workers without a nanny are left out.

    Raises
    ------
    TypeError
        ``install_fn`` cannot be called.

    Examples
    --------
    >>> def fetch_model():
    ...     import nltk
    ...     nltk.download("punkt")
    >>> plugin = InstallPlugin(fetch_model, restart_workers=False)
    >>> client.register_plugin(plugin)  # doctest: +SKIP
    """

    idempotent = True

    def __init__(self, install_fn: Callable[[], Any], restart_workers: bool = False) -> None:
        if not callable(install_fn):
            raise TypeError(f"install_fn must be a function without arguments, not {install_fn!r}")
        self.install_fn = install_fn
        self.restart_workers = bool(restart_workers)
        self.name = plugin_name(self)
        self._scheduler: Any = None

    async def start(self, scheduler: Any) -> None:
        """Hand the function to all workers (or nannies); raises what it raises there."""
        self._scheduler = scheduler
        if self.restart_workers:
            answers = await scheduler.register_nanny_plugin(plugin=_InNannies(self.install_fn), name=self.name)
        else:
            answers = await scheduler.register_worker_plugin(plugin=_InWorkers(self.install_fn), name=self.name)
        for answer in answers.values():
            if isinstance(answer, ErrorInfo):
                await self.close()
                raise unpack_error(answer)[0]

    async def close(self) -> None:
        """Workers that join from now on do not call it."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is None:
            return
        with contextlib.suppress(ValueError):  # somebody took it away by name
            if self.restart_workers:
                await scheduler.unregister_nanny_plugin(name=self.name)
            else:
                await scheduler.unregister_worker_plugin(name=self.name)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scheduler": None}


class _InWorkers(WorkerPlugin):
    def __init__(self, install_fn: Callable[[], Any]) -> None:
        self.install_fn = install_fn

    async def setup(self, worker: Any) -> None:
        await asyncio.to_thread(_in_turn, self.install_fn)


class _InNannies(NannyPlugin):
    restart = True

    def __init__(self, install_fn: Callable[[], Any]) -> None:
        self.install_fn = install_fn

    async def setup(self, nanny: Any) -> None:
        await asyncio.to_thread(_in_turn, self.install_fn)


class PipInstall(InstallPlugin):
    """Installs packages with pip on every worker's machine.

    Parameters
    ----------
    packages
        What pip takes: names, with versions or extras, URLs, paths.
    pip_options
        Further options of ``pip install``, such as ``["--upgrade"]``.
    restart_workers
        As for :class:`InstallPlugin`; set it when a package may be imported already.

    Examples
    --------
    >>> PipInstall(packages=["scikit-learn"], pip_options=["--upgrade"]).restart_workers
    False
    """

    def __init__(
        self, packages: Sequence[str], pip_options: Sequence[str] | None = None, restart_workers: bool = False
    ) -> None:
        installer = _Installer("pip", _strings(packages, "packages"), _strings(pip_options or (), "pip_options"))
        super().__init__(installer, restart_workers)
        self.name = installer.name("pip-install")
        self.packages = installer.packages


class CondaInstall(InstallPlugin):
    """Installs packages with conda into the environment of every worker. Needs ``conda`` there.

    Parameters
    ----------
    packages
        What ``conda install`` takes.
    conda_options
        Further options of ``conda install``, such as ``["-c", "conda-forge"]``.
    restart_workers
        As for :class:`InstallPlugin`.
    """

    def __init__(
        self, packages: Sequence[str], conda_options: Sequence[str] | None = None, restart_workers: bool = False
    ) -> None:
        installer = _Installer("conda", _strings(packages, "packages"), _strings(conda_options or (), "conda_options"))
        super().__init__(installer, restart_workers)
        self.name = installer.name("conda-install")
        self.packages = installer.packages


class _Installer:
    """Runs ``pip install`` or ``conda install``; the same packages and options have the same name."""

    def __init__(self, tool: str, packages: list[str], options: list[str]) -> None:
        if not packages:
            raise ValueError("name at least one package to install")
        self.tool = tool
        self.packages = packages
        self.options = options

    def name(self, prefix: str) -> str:
        content = repr((self.tool, self.packages, self.options))
        return f"{prefix}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def command(self) -> list[str]:
        if self.tool == "pip":
            return [sys.executable, "-m", "pip", "install", *self.options, *self.packages]
        conda = os.environ.get("CONDA_EXE", "conda")
        return [conda, "install", "--yes", "--prefix", sys.prefix, *self.options, *self.packages]

    def __call__(self) -> None:
        what = " ".join(self.packages)
        logger.info("Installing with %s: %s", self.tool, what)
        try:
            done = subprocess.run(self.command(), stdin=subprocess.DEVNULL, capture_output=True, text=True)
        except FileNotFoundError:
            raise RuntimeError(
                f"{self.tool} is not on this machine's PATH, so {what} cannot be installed with it"
            ) from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-_TAIL_LENGTH:]
            raise RuntimeError(f"{self.tool} could not install {what} (exit code {done.returncode}): {said}")


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """One installer at a time in each environment of this machine."""
    place = hashlib.sha256(sys.prefix.encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"distributed-install-{os.getuid()}-{place}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _in_turn(install_fn: Callable[[], Any]) -> None:
    with _turn():
        install_fn()


def _strings(values: Sequence[str], what: str) -> list[str]:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{what} must be a list of strings, not {values!r}")
    return list(values)
