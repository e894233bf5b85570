"""Clusters of real processes for tests, and programs run beside a test. All end with the block that started them."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import importlib.util
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import dask.config

from distributed.nanny import Nanny
from distributed.rpc.loop_runner import new_asyncio_loop
from distributed.scheduler import Scheduler
from distributed.worker import Worker

_CLI_MODULES = {
    "dask-scheduler": "distributed.cli.dask_scheduler",
    "dask-worker": "distributed.cli.dask_worker",
    "dscheduler": "distributed.cli.dask_scheduler",
    "dworker": "distributed.cli.dask_worker",
}


@functools.cache
def _context() -> Any:
    """Processes are forked from a clean process that has imported everything: milliseconds instead of a second."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["distributed.testing.processes"])
    return context


def _serve(
    conn: Any, kind: str, environ: dict[str, str], config: dict[str, Any], args: tuple[Any, ...], kwargs: Any
) -> None:
    """Body of a child: one server, until the parent says so, or is gone."""
    os.environ.clear()
    os.environ.update(environ)
    dask.config.config.clear()
    dask.config.config.update(config)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cls: Any = {"scheduler": Scheduler, "worker": Worker, "nanny": Nanny}[kind]

    async def run() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        try:
            server = cls(*args, **kwargs)
            await server
        except Exception as e:
            conn.send(RuntimeError(f"{kind} did not start: {type(e).__name__}: {e}"))
            return
        conn.send(server.address)
        loop.add_reader(conn.fileno(), stop.set)
        finished = asyncio.ensure_future(server.finished())
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait([finished, stopped], return_when=asyncio.FIRST_COMPLETED)
        loop.remove_reader(conn.fileno())
        with contextlib.suppress(Exception):
            await asyncio.wait_for(server.close(), 10)
        finished.cancel()
        stopped.cancel()

    with asyncio.Runner(loop_factory=new_asyncio_loop) as runner:
        runner.run(run())


class _Child:
    """A server in a process of its own."""

    def __init__(self, kind: str, *args: Any, **kwargs: Any) -> None:
        context = _context()
        self.conn: multiprocessing.connection.Connection
        self.conn, far = context.Pipe()
        config = copy.deepcopy(dask.config.config)
        self.process = context.Process(
            target=_serve, args=(far, kind, dict(os.environ), config, args, kwargs), name=f"test-{kind}", daemon=True
        )
        self.process.start()
        far.close()

    def address(self, timeout: float = 30) -> str:
        if not self.conn.poll(timeout):
            raise TimeoutError(f"{self.process.name} has not started in {timeout} s")
        try:
            answer = self.conn.recv()
        except EOFError:
            raise RuntimeError(f"{self.process.name} ended before it had started") from None
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    def tell_to_stop(self) -> None:
        with contextlib.suppress(OSError):
            self.conn.send(b"stop")

    def end(self, timeout: float = 10) -> None:
        self.tell_to_stop()
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join(5)
        self.conn.close()


@contextlib.contextmanager
def cluster(
    nworkers: int = 2,
    nanny: bool = False,
    worker_kwargs: dict[str, Any] | None = None,
    active_rpc_timeout: float = 10,
    scheduler_kwargs: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    disconnect_timeout: float = 20,
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """A scheduler and single-threaded workers, each in a process of its own.

    Parameters
    ----------
    nworkers : int
    nanny : bool
        Whether workers are watched by nannies.
    worker_kwargs, scheduler_kwargs : dict, optional
        Options of the servers.
    config : dict, optional
        Configuration of the processes.

    Yields
    ------
    ``({"address": ...}, [{"address": ..., "proc": weak reference to the process}, ...])``
    """
    options = {"host": "127.0.0.1", "port": 0, "validate": True, "dashboard": False, "dashboard_address": ":0"}
    worker_options = {"nthreads": 1, "host": "127.0.0.1", **(worker_kwargs or {})}
    if not nanny:
        worker_options.setdefault("validate", True)
    children: list[_Child] = []
    with dask.config.set(config or {}):
        try:
            scheduler = _Child("scheduler", **{**options, **(scheduler_kwargs or {})})
            children.append(scheduler)
            address = scheduler.address()
            kind = "nanny" if nanny else "worker"
            workers = [_Child(kind, address, **{"name": i, **worker_options}) for i in range(nworkers)]
            children[:0] = workers
            yield (
                {"address": address, "proc": weakref.ref(scheduler.process)},
                [{"address": worker.address(), "proc": weakref.ref(worker.process)} for worker in workers],
            )
        finally:
            for child in children:
                child.tell_to_stop()
            for child in children:
                child.end()


def _command(name: str) -> list[str]:
    """How to run the program: as installed beside this Python, or from its module, or from the path."""
    beside = os.path.join(os.path.dirname(sys.executable), name)
    if os.path.exists(beside):
        return [beside]
    module = _CLI_MODULES.get(name)
    if module is not None and importlib.util.find_spec(module) is not None:
        return [sys.executable, "-m", module]
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"there is no program {name!r} beside {sys.executable!r} or on the path")
    return [found]


@contextlib.contextmanager
def popen(
    args: list[str],
    capture_output: bool = False,
    terminate_timeout: float = 10,
    kill_timeout: float = 5,
    **kwargs: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of this Python's environment; end it with SIGINT, then SIGKILL, after the block.

    Parameters
    ----------
    args : list of str
        Name of the program (``dask-scheduler``, ``python``, ...) and its arguments.
    capture_output : bool
        Join stdout and stderr into ``proc.stdout``; False: both show.
    terminate_timeout, kill_timeout : float
        Seconds given to each way of ending it.
    **kwargs
        Of ``subprocess.Popen``.

    Raises
    ------
    subprocess.TimeoutExpired
        It took longer than ``terminate_timeout`` to end on SIGINT.
    """
    if capture_output:
        kwargs["stdout"] = subprocess.PIPE
        kwargs["stderr"] = subprocess.STDOUT
    elif "PYTHONUNBUFFERED" not in os.environ and "env" not in kwargs:
        kwargs["env"] = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([*_command(args[0]), *args[1:]], **kwargs)
    try:
        yield process
    finally:
        try:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=terminate_timeout)
        finally:
            if process.poll() is None:
                process.kill()
            output, _ = process.communicate(timeout=kill_timeout)
            if output:
                print(f"--- {args[0]} ---\n{output.decode(errors='replace')}")
