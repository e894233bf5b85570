"""``python -m distributed.nanny.worker_process``: the program that a nanny starts. One worker, and nothing else.

Its standard input is the private line to the nanny: the first message is the configuration (with the secret, which so
is neither in ``argv`` nor in the environment), later ones are orders; its end means that the nanny is gone, and the
worker hands over its data and closes. Signals: the first SIGTERM or SIGINT closes in order, a second one does not wait
for tasks, a third ends at once; the exit code is 128 plus the signal. No guard in the user's ``__main__`` is needed,
because nothing of it is imported here.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from distributed.base import defaults, ending, settings
from distributed.base.ending import leave
from distributed.base.status import Status
from distributed.comm import registry, secrets
from distributed.comm.keys import Secret
from distributed.nanny.channel import packed, read_message
from distributed.nanny.exit_note import exit_now, note_exits
from distributed.protocol import serialize
from distributed.rpc.loop_runner import new_asyncio_loop
from distributed.worker.executing_page import ExecutingPage
from distributed.worker.runtime import set_process_worker

logger = logging.getLogger("distributed.worker")

_HARD_EXIT_S = 3.0
_DRAIN_S = 20.0
_LOOKS, _LOOK_S = 100, 0.01
_SWITCH_INTERVAL_S = 0.001


class WorkerProgram:
    """The program, from its configuration to its exit code."""

    def __init__(self, line: socket.socket, config: dict[str, Any]) -> None:
        self.line = line
        self.config = config
        self.worker: Any = None
        self.exit_code = 0
        self._stopping: asyncio.Task[None] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._told = False

    def tell(self, **message: Any) -> None:
        """Send a dict to the nanny."""
        try:
            self.line.sendall(packed(message))
        except OSError:
            pass  # gone: the thread that listens will notice

    def run(self) -> int:
        """Be a worker until told otherwise; the exit code."""
        with asyncio.Runner(loop_factory=new_asyncio_loop) as runner:
            try:
                runner.run(self._main())
            except (asyncio.CancelledError, KeyboardInterrupt):
                pass
        return self.exit_code

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        ending.EndSignals(self._on_signal)
        threading.Thread(target=self._listen, args=(loop,), name="nanny-line", daemon=True).start()
        self._serving = asyncio.ensure_future(self._serve())
        try:
            await self._serving
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            if self._stopping is None:  # else: told to end while it was starting
                logger.error("The worker could not be started: %s", error)
                self.exit_code = self.exit_code or 1
                self.tell(event="failed", error=serialize.pack_error(error))
        if self._stopping is not None:
            await asyncio.wait([self._stopping], timeout=_HARD_EXIT_S)

    async def _serve(self) -> None:
        config = self.config
        worker_class = config["worker_class"] or defaults.load("Worker")
        secret = None if config["secret"] is None else Secret.from_text(config["secret"])
        if secret is not None:
            secrets.register(config["scheduler_address"], secret)
        self.worker = worker = worker_class(config["scheduler_address"], **config["worker_options"])
        worker.secret = worker.secret or secret
        worker._page = ExecutingPage(config["page_fd"])
        note_exits(worker._page)
        worker.on_directory = lambda path: self.tell(event="directory", path=path)
        worker.on_listening = lambda address: self.tell(event="listening", address=address)
        worker.on_registered = self._on_registered
        worker.on_leaving = self._on_leaving
        set_process_worker(worker)
        await worker
        gc.collect()
        gc.freeze()  # what the imports have made is not looked through again
        await worker.finished()

    def _on_registered(self) -> None:
        # Before any task can arrive: one that kills the process at once must find the nanny informed.
        self.tell(event="started", address=self.worker.address)

    def _on_leaving(self, reason: str, restart: bool) -> None:
        if not self._told:
            self._told = True
            self.tell(event="leaving", reason=reason, restart=restart)

    def _on_signal(self, number: signal.Signals) -> None:
        self.exit_code = 128 + number
        logger.info("Received signal %s (%d); closing the worker", number.name, number)
        self._stop(f"signal-{number.name}", restart=True)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for orders of the nanny, in a thread."""
        while (message := read_message(self.line)) is not None:
            if message.get("op") == "close":
                self._told = True
                _call(loop, self._stop, str(message.get("reason", "nanny-close")), False)
        if self._told:  # the nanny has ended in order, and so do we
            limit = _HARD_EXIT_S
            _call(loop, self._stop, "nanny-gone", False)
        else:
            limit = _DRAIN_S + _HARD_EXIT_S
            _call(loop, self._drain)
            self._tidy_after_nanny()
        threading.Event().wait(limit)
        exit_now(1)  # the nanny is gone and the loop does not move

    def _tidy_after_nanny(self) -> None:
        """Remove the socket file that a nanny that was killed has left; it may still be about to die."""
        for _ in range(_LOOKS):
            if registry.remove_traces(self.config["worker_options"]["nanny"]):
                return
            time.sleep(_LOOK_S)

    def _stop(self, reason: str, restart: bool) -> None:
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._close(reason, restart))

    def _drain(self) -> None:
        """The nanny was killed: nobody would notice if this process hung. Hand over the data while that is possible."""
        if self._stopping is None:
            logger.warning("The nanny is gone; the worker hands over its data and ends")
            self._stopping = asyncio.ensure_future(self._hand_over())

    async def _hand_over(self) -> None:
        worker = self.worker
        if worker is not None and worker.status in (Status.running, Status.paused):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_S):
                    await worker.close_gracefully(restart=False, reason="nanny-gone")
        await self._close("nanny-gone", False)

    async def _close(self, reason: str, restart: bool) -> None:
        worker = self.worker
        try:
            if worker is not None:
                await worker.close(executor_wait=False, reason=reason, restart=restart)
        finally:
            if self._serving is not None:
                self._serving.cancel()


def _call(loop: asyncio.AbstractEventLoop, function: Any, *args: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        pass


def take_line() -> socket.socket:
    """The line to the nanny, taken from standard input, which becomes empty."""
    line = socket.socket(fileno=os.dup(0))
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.set_inheritable(line.fileno(), False)
    return line


def prepare(config: dict[str, Any]) -> None:
    """Make this process like the nanny's: path, variables, settings, logs."""
    sys.path[:] = config["sys_path"]
    for name in ("PYTHONPATH",):
        value = config["variables"].get(name)
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.set_inheritable(config["page_fd"], False)
    settings.adopt(config["settings"])
    if settings.get("distributed.worker.daemon", True):
        # What libraries ask before they start processes of their own in a task (joblib then runs in sequence, a pool of
        # multiprocessing refuses): otherwise each worker of a machine would take all of its cores.
        multiprocessing.current_process()._config["daemon"] = True  # type: ignore[attr-defined]
    root = logging.getLogger("distributed")
    if not root.handlers:
        stream = logging.StreamHandler()
        stream.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
        root.addHandler(stream)
        root.propagate = False
    level = config["log_level"] or logging.INFO
    for handler in root.handlers:
        handler.setLevel(level)
    # What is not shown is kept all the same, for those who ask for the logs.
    root.setLevel(min(level, logging.INFO))


def main() -> None:
    """Entry point."""
    faulthandler.enable()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    line = take_line()
    try:
        defaults.load("Worker")  # whichever class it will be: while the nanny may still be starting
        config = read_message(line)
    except Exception as error:
        line.sendall(packed({"event": "failed", "error": serialize.pack_error(error)}))
        leave(1)
    if config is None:
        exit_now(1)
    program = WorkerProgram(line, config)
    try:
        prepare(config)
        code = program.run()
    except Exception as error:
        logger.exception("The worker process failed")
        program.tell(event="failed", error=serialize.pack_error(error))
        code = 1
    leave(code)


if __name__ == "__main__":
    main()
