"""Questions and orders to the cluster as a whole: who holds what, run this everywhere, restart, files, versions. Shell.

Every method is a coroutine on the client's loop; the face (``client.py``) offers them to plain code.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distributed.base import defaults
from distributed.base.errors import CommClosedError, WorkerStartTimeoutError
from distributed.base.handover import HANDOVER_S
from distributed.base.keys import Key, as_key, user_key
from distributed.client.futures import Future, futures_of, walk_futures
from distributed.client.options import worker_names
from distributed.client.parking import wait_async
from distributed.client.session import Session
from distributed.messages.payload import ErrorInfo, Payload
from distributed.protocol.plain import Pickled
from distributed.protocol.serialize import dumps, live, loads, unpack_error

logger = logging.getLogger("distributed.client")

POLL_S = 0.01
SHUTDOWN_S = 5.0
"""How long ``shutdown`` waits for the scheduler to hang up."""
ANSWER_S = 10.0
"""How long ``why`` waits for the scheduler before it says so."""
ON_ERROR = ("raise", "return", "ignore")


class Admin:
    """What a client asks of the scheduler besides tasks."""

    def __init__(self, client: Any, session: Session) -> None:
        self.client = client
        self.session = session
        self.identity: dict[str, Any] = {}

    # -- who and what --------------------------------------------------------------------------------------------------

    async def update_identity(self) -> dict[str, Any]:
        """The scheduler's description of itself and its workers; kept for ``repr`` and asynchronous callers."""
        self.identity = await self.session.call("identity", n_workers=-1)
        return self.identity

    async def who_has(self, keys: list[Key] | None) -> dict[Any, tuple[str, ...]]:
        found = await self.session.call("who_has", keys=keys)
        return {user_key(key): tuple(workers) for key, workers in found.items()}

    async def has_what(self, workers: Any) -> dict[str, tuple[Any, ...]]:
        found = await self.session.call("has_what", workers=_list(worker_names(workers)))
        return {worker: tuple([user_key(key) for key in keys]) for worker, keys in found.items()}

    async def nthreads(self, workers: Any) -> dict[str, int]:
        found: dict[str, int] = await self.session.call("nthreads", workers=_list(worker_names(workers)))
        return found

    async def nbytes(self, keys: list[Key] | None, summary: bool) -> dict[Any, int]:
        found = await self.session.call("nbytes", keys=keys, summary=summary)
        return {user_key(key): size for key, size in found.items()}

    async def processing(self, workers: Any) -> dict[str, tuple[Any, ...]]:
        found = await self.session.call("processing", workers=_list(worker_names(workers)))
        return {worker: tuple([user_key(key) for key in keys]) for worker, keys in found.items()}

    async def story(self, keys: tuple[Any, ...]) -> list[Any]:
        wanted = [as_key(key.key) if isinstance(key, Future) else as_key(key) for key in keys]
        found: list[Any] = await self.session.call("story", keys=wanted)
        return found

    async def why(self, future: Any) -> Any:
        key = future.key if isinstance(future, Future) else future
        link = self.session.link
        if not link.down_text():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    return await self.session.call("explain", key=as_key(key))
        return {"key": user_key(as_key(key)), "state": "unknown", "text": link.why_silent(), "there": None}

    async def call_stack(self, keys: list[Key] | None) -> Any:
        return await self.session.call("call_stack", keys=keys)

    # -- workers -------------------------------------------------------------------------------------------------------

    async def wait_for_workers(self, n_workers: int, timeout: float | None, said: Any = None) -> None:
        clock = asyncio.get_running_loop().time
        deadline = None if timeout is None else clock() + timeout
        pause = POLL_S
        while True:
            info = await self.update_identity()
            ready = sum(worker.get("status", "running") == "running" for worker in info["workers"].values())
            if ready >= n_workers:
                return
            if deadline is not None and clock() >= deadline:
                raise WorkerStartTimeoutError(ready, n_workers, timeout or 0 if said is None else said)
            await asyncio.sleep(pause if deadline is None else max(0.0, min(pause, deadline - clock())))
            pause = min(0.2, pause * 1.3)

    async def restart(self, timeout: float | None, wait_for_workers: bool) -> None:
        arguments: dict[str, Any] = {"wait_for_workers": wait_for_workers}
        if timeout is not None:
            arguments["timeout"] = timeout
        # What came over this connection before the answer has been handled: futures of before are cancelled.
        await self.session.call("restart", **arguments)
        await self.update_identity()

    async def restart_workers(self, workers: list[str], timeout: float | None, raise_for_error: bool) -> Any:
        names = list(worker_names(workers) or ())
        arguments: dict[str, Any] = {"workers": names}
        if timeout is not None:
            arguments["timeout"] = timeout
        answer = await self.session.call("restart_workers", **arguments)
        if raise_for_error and isinstance(answer, Mapping):
            late = [worker for worker, status in answer.items() if status == "timed out"]
            if late:
                raise TimeoutError(f"these workers have not restarted within {timeout:g} s: {late}")
        return answer

    async def retire_workers(self, workers: Any, close_workers: bool, **kwargs: Any) -> Any:
        return await self.session.call(
            "retire_workers", workers=_list(worker_names(workers)), close_workers=close_workers, **kwargs
        )

    # -- functions -----------------------------------------------------------------------------------------------------

    def pack(self, function: Any) -> Payload:
        """A function or its arguments, ready to travel; pickled now, so that errors show at the caller."""
        return live(function) if self.session.live else dumps(function)

    async def run(
        self,
        function: Payload,
        args: Payload,
        kwargs: Payload,
        workers: Any,
        wait: bool,
        nanny: bool,
        on_error: str,
        held: list[Any],
    ) -> Any:
        """``held``: futures in what is sent, until the workers have claimed them."""
        message = {"op": "run", "function": function, "args": args, "kwargs": kwargs, "wait": wait}
        answers = await self.session.call(
            "broadcast", msg=message, workers=_list(worker_names(workers)), nanny=nanny, on_error="return_pickle"
        )
        results: dict[str, Any] = {}
        for address, answer in answers.items():
            error = _error_in(answer)
            if error is None:
                results[address] = _open(answer)
                for future in walk_futures(results[address]):
                    future.bind_client(self.client)
            elif on_error == "raise":
                raise error
            elif on_error == "return":
                results[address] = error
        if held and not wait:  # they are opened after the answer
            self.session.loop.call_later(HANDOVER_S, held.clear)
        return results if wait else None

    async def run_on_scheduler(self, function: Payload, args: Payload, kwargs: Payload, wait: bool) -> Any:
        answer = await self.session.call("run_function", function=function, args=args, kwargs=kwargs, wait=wait)
        return _open(answer["result"])

    # -- files and versions --------------------------------------------------------------------------------------------

    async def upload_file(self, name: str, data: bytes, load: bool) -> dict[str, Any]:
        answer = _checked(await self.session.call("upload_file", filename=name, data=data, load=load))
        return answer if isinstance(answer, dict) else {}

    async def get_versions(self, check: bool, packages: list[str]) -> dict[str, Any]:
        versions = defaults.load("distributed.base.versions")  # reads package metadata: not for everyone
        own: dict[str, Any] = versions.get_versions(packages)
        try:
            scheduler = await self.session.call("versions", packages=packages)
        except ValueError as e:
            logger.debug("The scheduler does not tell its versions: %s", e)
            scheduler = None
        answers = await self.session.call("broadcast", msg={"op": "versions", "packages": packages}, on_error="return")
        workers = {
            address: view for address, view in answers.items() if isinstance(view, Mapping) and "packages" in view
        }
        result = {"scheduler": scheduler, "workers": workers, "client": own}
        if check:
            views = {"client": own, "scheduler": scheduler or {}, **{f"worker {a}": v for a, v in workers.items()}}
            text = versions.mismatch_text(versions.differences(views, packages))
            if text:
                raise ValueError(text)
        return result

    # -- metadata and events -------------------------------------------------------------------------------------------

    async def set_metadata(self, path: list[Any], value: Any) -> None:
        await self.session.call("set_metadata", keys=path, value=value)

    async def get_metadata(self, path: list[Any], default: Any) -> Any:
        if default is NO_DEFAULT:
            return await self.session.call("get_metadata", keys=path)
        return await self.session.call("get_metadata", keys=path, default=default)

    async def get_logs(self, n: int | None) -> Any:
        return await self.session.call("get_logs", n=n)

    async def worker_logs(self, n: int | None, workers: Any, nanny: bool) -> Any:
        return await self.session.call("worker_logs", n=n, workers=_list(worker_names(workers)), nanny=nanny)

    async def get_events(self, topic: str | None) -> Any:
        return await self.session.call("get_events", topic=topic)

    async def subscribe(self, topic: str) -> None:
        await self.session.call("subscribe_topic", topic=topic)

    async def unsubscribe(self, topic: str) -> None:
        await self.session.call("unsubscribe_topic", topic=topic)

    # -- data ----------------------------------------------------------------------------------------------------------

    async def replicate(self, futures: Any, n: int | None, workers: Any, branching_factor: int) -> None:
        await self._finished(futures)
        await self.session.call(
            "replicate",
            keys=keys_of(futures),
            n=n,
            workers=_list(worker_names(workers)),
            branching_factor=branching_factor,
        )

    async def rebalance(self, futures: Any, workers: Any) -> None:
        if futures is not None:
            await self._finished(futures)
        answer = await self.session.call("rebalance", keys=keys_of(futures), workers=_list(worker_names(workers)))
        if answer["status"] != "OK":
            raise KeyError(f"these keys could not be moved: {answer['keys']}")

    async def _finished(self, futures: Any) -> None:
        states = [future._bound() for future in futures_of(futures)]
        await wait_async(self.session.table, states)

    # -- plugins -------------------------------------------------------------------------------------------------------

    async def register_plugin(self, kind: str, plugin: Payload, name: str, idempotent: bool) -> Any:
        answer = await self.session.call(f"register_{kind}_plugin", plugin=plugin, name=name, idempotent=idempotent)
        if isinstance(answer, Mapping):
            for one in answer.values():
                error = _error_in(one)
                if error is not None:
                    raise error
        return answer

    async def unregister_plugin(self, kind: str, name: str) -> Any:
        return _checked(await self.session.call(f"unregister_{kind}_plugin", name=name))

    async def shutdown(self) -> None:
        connection = self.session.connection
        try:
            await self.session.call("terminate")
        except CommClosedError:
            return  # it has ended before it could say so
        if connection is not None and not connection.closed:
            hung_up = asyncio.Event()
            connection.add_on_closed(lambda error: hung_up.set())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(hung_up.wait(), SHUTDOWN_S)


class _NoDefault:
    def __repr__(self) -> str:
        return "<no default>"


NO_DEFAULT: Any = _NoDefault()


def _list(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else list(names)


def _open(value: Any) -> Any:
    """What a function has returned. Its answer comes open over a wire, but a scheduler in this process, which opens
    nothing, hands on what is not plain data as a pickle, at any depth."""
    kind = type(value)
    if kind is Payload:
        return loads(value)
    if kind is Pickled:
        return value.load()
    if kind in (list, tuple, set, frozenset):
        return kind([_open(part) for part in value])
    if kind is dict:
        return {_open(key): _open(part) for key, part in value.items()}
    return value


def _error_in(answer: Any) -> BaseException | None:
    """The exception in the answer that stands for a worker that failed; None for any other answer."""
    info = answer
    if isinstance(answer, Mapping) and answer.get("status") == "error":
        info = answer.get("exception")
    if type(info) is not ErrorInfo:
        return None
    error, traceback = unpack_error(info)
    return error.with_traceback(traceback)


def _checked(answers: Any) -> Any:
    """The workers' answers as they are; raises the first error among them."""
    if isinstance(answers, Mapping):
        for part in answers.values():
            error = _error_in(part)
            if error is not None:
                raise error
    return answers


def keys_of(futures: Any, of_key: Callable[[Any], Key] = as_key) -> list[Key] | None:
    """The keys of futures, of collections of them, or plain keys in a list; None stays None."""
    if futures is None:
        return None
    found = [of_key(future.key) for future in futures_of(futures)]
    if isinstance(futures, (str, bytes)):
        return [of_key(futures)]
    if not found and isinstance(futures, (list, tuple, set)):
        found = [of_key(key) for key in futures if isinstance(key, (str, bytes, tuple, int, float))]
    return found


def read_upload(filename: Any) -> tuple[str, bytes]:
    """Name and content of a file to upload."""
    if not isinstance(filename, (str, os.PathLike)):
        raise TypeError(f"filename must be a path, not {filename!r}")
    path = Path(filename)
    return path.name, path.read_bytes()
