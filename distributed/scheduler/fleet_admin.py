"""Orders to workers and nannies as a whole: broadcast, restart, plugins and files for all, call stacks. Shell."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from distributed.base.errors import CommClosedError
from distributed.base.keys import UserKey, user_key
from distributed.messages.payload import Payload
from distributed.plugins.worker import UploadFile
from distributed.protocol.plain import Pickled
from distributed.protocol.serialize import dumps
from distributed.rpc.connection import Connection
from distributed.rpc.counted import CountedLink
from distributed.rpc.pool import ConnectionPool
from distributed.scheduler import queries
from distributed.scheduler.relay import as_info
from distributed.scheduler.shell import Shell
from distributed.scheduler.state_machine import WorkerState
from distributed.scheduler.state_machine.events import Restart
from distributed.scheduler.streams import Streams

logger = logging.getLogger("distributed.scheduler")

ON_ERROR = ("raise", "return", "return_pickle", "ignore")
_IGNORED: Any = object()
REPEATABLE = frozenset(["call_stack", "explain", "get_data", "get_logs", "get_story", "keys", "story", "versions"])
"""Questions that may be asked twice."""


class FleetAdmin:
    """Asks many at once, and remembers what late comers have to be given.

    Attributes
    ----------
    worker_plugins, nanny_plugins
        Pickles by name, sent unopened to every worker (nanny) that registers.
    """

    def __init__(self, shell: Shell, pool: ConnectionPool) -> None:
        self.worker_plugins: dict[str, Payload] = {}
        self.nanny_plugins: dict[str, Payload] = {}
        self._shell = shell
        self._pool = pool

    # ---------------------------------------------------------------- one

    async def ask_worker(self, address: str, op: str, kwargs: dict[str, Any]) -> Any:
        """One question to a worker. When its connection is broken the question waits until it is back, or given up
        (``worker-grace``); one that does no harm twice is asked again over the next connection.

        Raises CommClosedError when there is no such worker, or not any more.
        """
        streams = self._shell.streams
        while True:
            link = streams.workers.get(address)
            if link is None:
                raise CommClosedError(f"there is no worker at {address}")
            connection = link.connection
            if connection is None or connection.closed:
                await self._shell.conditions.wait(partial(_is_decided, streams, address, link))
                continue
            try:
                return await _ask(connection, op, kwargs)
            except CommClosedError:
                if op not in REPEATABLE or not connection.closed:
                    raise

    async def ask_nanny(self, address: str | None, op: str, kwargs: dict[str, Any]) -> Any:
        """One question to a nanny, over its own connection or a new one."""
        if address is None:
            raise ValueError("this worker has no nanny")
        connection = self._shell.streams.nanny(address)
        if connection is None:
            connection = await self._pool.connect(address)
        return await _ask(connection, op, kwargs)

    async def proxy(self, msg: Mapping[str, Any], worker: Any) -> Any:
        """Hand a question on to one worker, given by address or name."""
        found = queries.find_workers(self._shell.state, [worker])
        if not found:
            raise ValueError(f"there is no worker {worker!r}")
        op, kwargs = _split(msg)
        return await self.ask_worker(found[0].address, op, kwargs)

    # ---------------------------------------------------------------- all

    async def broadcast(
        self,
        msg: Mapping[str, Any],
        workers: queries.WorkerNames = None,
        hosts: list[str] | None = None,
        nanny: bool = False,
        on_error: str = "raise",
    ) -> dict[str, Any]:
        """Ask many workers (or their nannies) the same. Returns ``{worker address: answer}``.

        Parameters
        ----------
        msg
            ``{"op": name, **arguments}``.
        on_error
            ``raise`` the first error; ``return`` it in the place of the answer (``return_pickle``: as ErrorInfo); or
            ``ignore`` those workers.
        """
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, not {on_error!r}")
        op, kwargs = _split(msg)
        state = self._shell.state
        chosen = queries.find_workers(state, workers, hosts)
        answers = await asyncio.gather(*[self._ask_one(ws, op, kwargs, nanny, on_error) for ws in chosen])
        found = {ws.address: answer for ws, answer in zip(chosen, answers, strict=True) if answer is not _IGNORED}
        if workers is not None and not isinstance(workers, str):
            for name in workers:
                if not queries.find_workers(state, [name]):
                    error = _failed(CommClosedError(f"there is no worker {name!r}"), on_error)
                    if error is not _IGNORED:
                        found[str(name)] = error
        return found

    async def _ask_one(self, ws: WorkerState, op: str, kwargs: dict[str, Any], nanny: bool, on_error: str) -> Any:
        try:
            if nanny:
                return await self.ask_nanny(ws.nanny, op, kwargs)
            return await self.ask_worker(ws.address, op, kwargs)
        except Exception as e:
            return _failed(e, on_error)

    async def call_stack(self, keys: list[Any] | None, workers: queries.WorkerNames) -> dict[str, Any]:
        """``{worker: {key: frames}}`` of the tasks that run (of ``keys`` only, if given)."""
        state = self._shell.state
        questions: dict[str, dict[str, Any]] = {}
        if keys is not None:
            for key in queries.as_keys(keys):
                ts = state.tasks.get(key)
                if ts is not None and ts.processing_on is not None:
                    questions.setdefault(ts.processing_on.address, {"keys": []})["keys"].append(key)
        else:
            questions = {ws.address: {"keys": None} for ws in queries.find_workers(state, workers)}
        answers = await asyncio.gather(*[self.ask_worker(w, "call_stack", q) for w, q in questions.items()])
        return {worker: answer for worker, answer in zip(questions, answers, strict=True) if answer}

    # ---------------------------------------------------------------- plugins and files

    async def add_worker_plugin(self, name: str, plugin: Payload, idempotent: bool = False) -> dict[str, Any]:
        """Give a plugin to all workers, present and future; nothing when ``idempotent`` and the name is taken."""
        if idempotent and name in self.worker_plugins:
            return {}
        self.worker_plugins[name] = plugin
        msg = {"op": "plugin_add", "plugin": plugin, "name": name}
        answers = await self.broadcast(msg, on_error="return_pickle")
        # One that has left meanwhile has no answer, and needs none.
        return {worker: answer for worker, answer in answers.items() if worker in self._shell.state.workers}

    async def remove_worker_plugin(self, name: str) -> dict[str, Any]:
        """Take it away again. Raises ValueError when there is none of this name."""
        if self.worker_plugins.pop(name, None) is None:
            raise ValueError(f"no worker plugin is named {name!r}")
        return await self.broadcast({"op": "plugin_remove", "name": name}, on_error="return_pickle")

    async def add_nanny_plugin(self, name: str, plugin: Payload, idempotent: bool = False) -> dict[str, Any]:
        """Give a plugin to all nannies, present and future."""
        if idempotent and name in self.nanny_plugins:
            return {}
        self.nanny_plugins[name] = plugin
        return await self._all_nannies("plugin_add", {"plugin": plugin, "name": name})

    async def remove_nanny_plugin(self, name: str) -> dict[str, Any]:
        """Take it away again. Raises ValueError when there is none of this name."""
        if self.nanny_plugins.pop(name, None) is None:
            raise ValueError(f"no nanny plugin is named {name!r}")
        return await self._all_nannies("plugin_remove", {"name": name})

    async def _all_nannies(self, op: str, kwargs: dict[str, Any]) -> dict[str, Any]:
        streams = self._shell.streams
        links = streams.connections(streams.nannies)
        answers = await asyncio.gather(*[_ask(link, op, kwargs) for link in links.values()], return_exceptions=True)
        return {
            address: as_info(answer) if isinstance(answer, Exception) else answer
            for (address, link), answer in zip(links.items(), answers, strict=True)
            if not link.closed  # one that has left meanwhile
        }

    async def upload_file(self, filename: str, data: bytes, load: bool = True) -> dict[str, Any]:
        """Put a file on all workers, present and future. Returns ``{worker: answer}``."""
        plugin = UploadFile.from_bytes(filename, bytes(data), load)
        self.worker_plugins[str(plugin.name)] = dumps(plugin)
        msg = {"op": "upload_file", "filename": plugin.filename, "data": plugin.data, "load": load}
        return await self.broadcast(msg, on_error="return_pickle")

    # ---------------------------------------------------------------- restart

    async def restart(self, timeout: float, wait_for_workers: bool) -> None:
        """Forget all tasks and start all workers anew. Workers without a nanny end.

        Raises TimeoutError when fewer workers than before are there after ``timeout`` seconds.
        """
        shell = self._shell
        logger.info("Restarting all workers and forgetting all tasks")
        old = list(shell.state.workers.values())
        before = {ws.address: ws.pid for ws in old}
        n_expected = sum([ws.nanny is not None for ws in old])
        n_lost = len(old) - n_expected
        if n_lost:
            logger.warning("%d workers have no nanny and end with this restart", n_lost)
        shell.events.log("all", {"action": "restart", "workers": len(old)})
        shell.apply_now(Restart())
        shell.plugins.call("restart", shell.plugins.scheduler)
        if not wait_for_workers:
            return
        state = shell.state

        def fresh() -> int:
            return sum([before.get(ws.address) != ws.pid or not ws.pid for ws in state.workers.values()])

        if not await shell.conditions.wait(lambda: fresh() >= n_expected, timeout):
            raise TimeoutError(
                f"{n_expected} workers should have come back after the restart; after {timeout:g} s there were "
                f"{fresh()}. Give restart(timeout=) more time, or see in the nannies' logs why they do not start."
            )

    async def restart_workers(
        self, workers: queries.WorkerNames, timeout: float, on_error: str = "raise", stimulus: str = "restart-workers"
    ) -> dict[str, Any]:
        """Start the processes of these workers anew. Returns ``{worker as named: "OK", "timed out" or the error}``."""
        chosen = queries.find_workers(self._shell.state, workers)
        for name in [workers] if isinstance(workers, str) else workers or ():
            if not queries.find_workers(self._shell.state, [name]):
                raise ValueError(f"there is no worker {name!r} to be restarted")
        without = [ws.address for ws in chosen if ws.nanny is None]
        if without:
            raise ValueError(f"Restarting a worker requires it to have a nanny; these have none: {without}")
        arguments = {"timeout": timeout, "reason": stimulus}
        answers = await asyncio.gather(*[self._restart_one(ws, arguments, timeout) for ws in chosen])
        results = {ws.address: answer for ws, answer in zip(chosen, answers, strict=True)}
        if on_error == "raise":
            for answer in results.values():
                if isinstance(answer, Exception):
                    raise answer
        return {w: str(a) if isinstance(a, Exception) else a for w, a in results.items()}

    async def _restart_one(self, ws: WorkerState, arguments: dict[str, Any], timeout: float) -> Any:
        try:
            async with asyncio.timeout(timeout):
                answer = await self.ask_nanny(ws.nanny, "restart", arguments)
        except TimeoutError:
            return "timed out"
        except Exception as e:
            return e
        return answer if isinstance(answer, str) else "OK"


def _split(msg: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    kwargs = dict(msg)
    op = kwargs.pop("op", None)
    if not isinstance(op, str):
        raise ValueError(f"a message needs an operation, such as {{'op': 'ping'}}, not {msg!r}")
    return op, kwargs


def _is_decided(streams: Streams, address: str, link: CountedLink) -> bool:
    """Whether the worker is back, or out."""
    return link.stands or streams.workers.get(address) is not link


async def _ask(connection: Connection, op: str, kwargs: dict[str, Any]) -> Any:
    if connection.same_process:
        # Nothing is opened on the way there, so what is still closed must be opened here, in the worker's own process.
        kwargs = {name: value.load() if isinstance(value, Pickled) else value for name, value in kwargs.items()}
    return await connection.request(op, kwargs)


def _failed(error: Exception, on_error: str) -> Any:
    if on_error == "raise":
        raise error
    if on_error == "ignore":
        return _IGNORED
    return as_info(error) if on_error == "return_pickle" else error


def stack_keys(stacks: Mapping[str, Mapping[Any, Any]]) -> dict[str, dict[UserKey, Any]]:
    """Call stacks with keys as users write them."""
    return {worker: {user_key(key): frames for key, frames in stack.items()} for worker, stack in stacks.items()}
