"""The cluster of a chaos run: a LocalCluster in which some nannies are programs, so that they can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from typing import Any

import psutil

from distributed.deploy.local import LocalCluster
from distributed.deploy.spec import ProcessInterface

__all__ = ["ChaosCluster", "NannyProgram"]

_END_S = 10.0


class NannyProgram(ProcessInterface):
    """``dask-worker --nanny`` as a program, as a member of a SpecCluster.

    Parameters
    ----------
    scheduler : str
        Address of the scheduler.
    name : hashable
        Of the worker.
    nthreads : int
    local_directory : str, optional
    """

    def __init__(
        self, scheduler: str, name: Any = None, nthreads: int = 1, local_directory: str | None = None, **ignored: Any
    ) -> None:
        super().__init__(scheduler, name)
        self.scheduler = scheduler
        self.name = name
        self.nthreads = nthreads
        self.local_directory = local_directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the nanny."""
        return None if self._process is None else self._process.pid

    def worker_pid(self) -> int | None:
        """Of the worker, while there is one."""
        if self._process is None or self._process.returncode is not None:
            return None
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._process.pid).children():
                return int(child.pid)
        return None

    async def start(self) -> None:
        """Start the program; its worker joins when it is ready."""
        command = [sys.executable, "-m", "distributed.cli.dask_worker", self.scheduler, "--name", str(self.name)]
        command += ["--nthreads", str(self.nthreads), "--no-dashboard", "--memory-limit", "0"]
        if self.local_directory is not None:
            command += ["--local-directory", self.local_directory]
        loop = asyncio.get_running_loop()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)  # noqa: ASYNC220
        self._process = process
        threading.Thread(target=self._watch, args=(process, loop), name="nanny-program", daemon=True).start()
        await super().start()

    def _watch(self, process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop) -> None:
        code = process.wait()
        with contextlib.suppress(RuntimeError):  # the loop has ended before
            loop.call_soon_threadsafe(self.ended, code != 0)

    async def close(self) -> None:
        """End the program in order if that takes no longer than ten seconds."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(_END_S):
                    await self.finished()
            except TimeoutError:
                process.kill()
                await self.finished()
        await super().close()


class ChaosCluster(LocalCluster):
    """A LocalCluster in which every third member is a :class:`NannyProgram`, if ``programs``."""

    def __init__(self, programs: bool = True, **kwargs: Any) -> None:
        self.programs = programs
        super().__init__(**kwargs)

    def _new_worker_name(self, worker_number: int) -> Any:
        # A program takes its worker's name from the command line, where there is only text.
        return f"apart-{worker_number}" if self.programs and worker_number % 3 == 2 else worker_number

    def new_worker_spec(self) -> dict[Any, Any]:
        ((name, spec),) = super().new_worker_spec().items()
        if isinstance(name, str):
            options = spec["options"]
            kept = {k: options[k] for k in ("nthreads", "local_directory") if options.get(k) is not None}
            return {name: {"cls": NannyProgram, "options": kept}}
        return {name: spec}
