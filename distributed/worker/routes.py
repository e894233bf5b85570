"""What others may ask of a worker: the table of operations, each a line or a few. Shell."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterable
from typing import Any

from distributed.base import defaults, versions
from distributed.base.keys import Key
from distributed.messages.payload import Payload
from distributed.rpc.connection import Connection
from distributed.worker import remote_calls
from distributed.worker.runtime import current_worker

_WAIT_TASKS: set[asyncio.Task[Any]] = set()


def worker_routes(worker: Any) -> dict[str, Callable[..., Any]]:
    """Operation -> function, for one worker."""
    routes = _Routes(worker)
    return {
        "actor_attribute": routes.actor_attribute,
        "actor_execute": routes.actor_execute,
        "call_stack": routes.call_stack,
        "end_loans": routes.end_loans,
        "expect": routes.expect,
        "explain": routes.explain,
        "get_data": routes.get_data,
        "get_logs": routes.get_logs,
        "get_story": routes.story,
        "keys": routes.keys,
        "plugin-add": routes.plugin_add,
        "plugin-remove": routes.plugin_remove,
        "plugin_add": routes.plugin_add,
        "plugin_remove": routes.plugin_remove,
        "run": routes.run,
        "set_resources": worker.set_resources,
        "run_coroutine": routes.run,
        "story": routes.story,
        "terminate": routes.terminate,
        "update_data": routes.update_data,
        "upload_file": routes.upload_file,
        "versions": routes.versions,
        **defaults.operations(defaults.WORKER_OPERATIONS, worker),
    }


class _Routes:
    def __init__(self, worker: Any) -> None:
        self.worker = worker

    async def get_data(
        self, keys: Iterable[Key], connection: Connection, who: str = "", borrows: bool = False, **ignored: Any
    ) -> Any:
        return await self.worker.data_service.get_data(keys, connection, borrows)

    def end_loans(self, numbers: Iterable[int], connection: Connection, **ignored: Any) -> bool:
        ended: bool = self.worker.data_service.loans.end(connection, numbers)
        return ended

    def expect(self, packages: Iterable[str], **ignored: Any) -> None:
        self.worker.data_service.expect(packages)

    async def update_data(
        self,
        data: dict[Key, Payload],
        connection: Connection,
        report: bool = False,
        placed: bool = False,
        after: int | None = None,
        **ignored: Any,
    ) -> dict[str, Any]:
        if after is not None and (type(after) is not int or after < 0):
            raise ValueError(f"after= is the number of a message of the scheduler, or None, not {after!r}")
        # A client may have meant the worker that had this address before: what is told of a worker that the scheduler
        # does not know is lost to the client, and nobody would free it here. And it takes another way than the
        # scheduler's orders to forget older values of these keys, which must not come later.
        await self.worker.catch_up(after, data)
        nbytes = await self.worker.data_service.take_in(data, connection.name or connection.peer_role)
        self.worker.data_updated(nbytes, report, placed)
        return {"status": "OK", "nbytes": nbytes}

    async def run(self, function: Any, args: Any = (), kwargs: Any = None, wait: bool = True, **ignored: Any) -> Any:
        token = current_worker.set(self.worker)
        try:
            running = remote_calls.run(self.worker, "dask_worker", function, args, kwargs)
            if wait:
                return await running
            task = asyncio.get_running_loop().create_task(running)
            _WAIT_TASKS.add(task)
            task.add_done_callback(_WAIT_TASKS.discard)
            return None
        finally:
            current_worker.reset(token)

    def terminate(self, reason: str = "terminate", **ignored: Any) -> str:
        worker = self.worker
        asyncio.get_running_loop().call_later(
            0.01, lambda: worker.add_close_task(worker.close(reason=reason, nanny=True))
        )
        return "OK"

    async def upload_file(self, filename: str, data: Any, load: bool = True, **ignored: Any) -> dict[str, Any]:
        content = remote_calls.opened(data) if isinstance(data, Payload) else data
        answer: dict[str, Any] = self.worker.upload_file(filename, content, load)
        return answer

    def call_stack(self, keys: Iterable[Key] | None = None, **ignored: Any) -> dict[Key, list[str]]:
        stacks: dict[Key, list[str]] = self.worker.call_stacks(keys)
        return stacks

    def explain(self, key: Key, **ignored: Any) -> dict[str, Any]:
        """Why the key is where it is on this worker, as plain data."""
        found = self.worker.state.explain(key, time.monotonic())
        if found.state == "executing":
            begun = key in self.worker.executor.executing_keys().values()
            how = "executing since" if begun else "with the executor, not begun, since"
            found.text = f"{how} {found.since_s:.3g} s"
        waits_for = self.worker.executor.waits_for(key)
        if waits_for:
            found.text += f"; it waits for {waits_for}"
        opening = self.worker.executor.opening(key)
        if opening:
            found.text += f"; it is unpickling {opening.rstrip(',')}"
        return {name: getattr(found, name) for name in found.__struct_fields__}

    def versions(self, packages: Iterable[str] | None = None, **ignored: Any) -> dict[str, Any]:
        return versions.get_versions(packages)

    def get_logs(
        self, start: float = 0, n: int | None = None, timestamps: bool = False, **ignored: Any
    ) -> list[tuple[Any, ...]]:
        lines: list[tuple[Any, ...]] = self.worker.get_logs(start, n, timestamps)
        return lines

    def keys(self, **ignored: Any) -> list[Key]:
        return list(self.worker.data)

    def story(
        self, keys: Iterable[Key] = (), keys_or_stimuli: Iterable[Key] | None = None, **ignored: Any
    ) -> list[Any]:
        return list(self.worker.state.story(*(keys if keys_or_stimuli is None else keys_or_stimuli)))

    async def plugin_add(self, plugin: Any, name: str | None = None, **ignored: Any) -> dict[str, Any]:
        await self.worker.plugin_host.add(remote_calls.opened(plugin), name)
        return {"status": "OK"}

    async def plugin_remove(self, name: str, **ignored: Any) -> dict[str, Any]:
        await self.worker.plugin_host.remove(name)
        return {"status": "OK"}

    async def actor_execute(
        self, actor: Any, function: str, args: Any = (), kwargs: Any = None, **ignored: Any
    ) -> dict[str, Any]:
        """Call a method of an actor: a coroutine function on the loop, any other one in the actors' thread."""
        method = getattr(self.worker.actor_calls.find(actor), function)
        args, kwargs = remote_calls.opened(args), remote_calls.opened(kwargs) or {}
        if inspect.iscoroutinefunction(method):
            result = await method(*args, **kwargs)
        else:
            result = await self.worker.actor_calls.run(method, args, kwargs)
        return {"status": "OK", "result": result}

    def actor_attribute(self, actor: Any, attribute: str, **ignored: Any) -> dict[str, Any]:
        return {"status": "OK", "result": getattr(self.worker.actor_calls.find(actor), attribute)}
