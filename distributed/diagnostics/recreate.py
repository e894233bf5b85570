"""A task run again in the client's own process, under a debugger, say: ``client.recreate_task_locally``. Shell.

The scheduler hands out what the task is made of, unopened; its inputs are gathered like any results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed.base.keys import as_key, user_key
from distributed.client.futures import Future
from distributed.client.parking import wait_async
from distributed.messages.payload import Arguments, FunctionBlob
from distributed.protocol.functions import loads_function
from distributed.protocol.opening import open_in_turn
from distributed.protocol.program import Program
from distributed.worker.inputs import fill_arguments

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def spec_of(scheduler: Any, key: Any, blame: bool = False) -> dict[str, Any]:
    """The scheduler's answer: ``key, function, payload, dependencies, alias`` of a task.

    Parameters
    ----------
    blame
        Of the task whose failure is why this one failed.
    """
    tasks = scheduler.state.tasks
    ts = tasks.get(as_key(key))
    if ts is None:
        raise KeyError(f"the scheduler does not know the task {key!r} (any more)")
    if blame:
        if ts.state != "erred":
            raise ValueError(f"the task {key!r} has not failed, it is {ts.state}")
        ts = ts.exception_blame or ts
    spec = ts.run_spec
    if spec is None:
        raise ValueError(f"{user_key(ts.key)!r} is data that a client has put on the cluster: there is nothing to run")
    return {
        "key": ts.key,
        "function": scheduler.state.functions.get(spec.function),
        "payload": spec.payload,
        "dependencies": [d.key for d in ts.dependencies],
        "alias": spec.alias,
    }


async def task_of(client: Any, future: Any, blame: bool) -> Call:
    """``(function, args, kwargs)`` of a future's task (or of the one to blame), inputs gathered."""
    if not isinstance(future, Future):
        raise TypeError(f"a future is needed, not {type(future).__name__}")
    state = future._bound()
    if not state.done:
        await wait_async(client.session.table, [state])
    spec = await client.session.call("get_runspec", key=as_key(future.key), blame=blame)
    inputs = [Future(user_key(key), client) for key in spec["dependencies"]]
    values = await client.gather(inputs, asynchronous=True)
    return _opened(spec["function"], spec["payload"], spec["dependencies"], values, spec["alias"])


class ReplayTaskClient:
    """The same for code that asks a client's extension and not the client.

    Examples
    --------
    >>> ReplayTaskClient(client).recreate_error_locally(future)  # doctest: +SKIP
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def recreate_task_locally(self, key: Any) -> Any:
        """Run the task of a future here."""
        return self.client.recreate_task_locally(key)

    def recreate_error_locally(self, future: Any) -> Any:
        """Run the task here to whose failure a future owes its own."""
        return self.client.recreate_error_locally(future)


def _opened(
    function: FunctionBlob | None, payload: Arguments | None, keys: list[Any], values: list[Any], alias: bool
) -> Call:
    if alias:
        return _same, (values[0],), {}
    if function is None:
        node = None if payload is None else open_in_turn(payload)
        if not callable(node):
            return _same, (node,), {}
        return node, ({user_key(key): value for key, value in zip(keys, values, strict=True)},), {}
    called = loads_function(function)
    opened = None if payload is None else open_in_turn(payload)
    if type(called) is Program:
        return called, (opened or (), values), {}
    args, kwargs = opened or ((), {})
    args, kwargs = fill_arguments(args, kwargs, values.__getitem__)
    return called, tuple(args), kwargs


def _same(value: Any) -> Any:
    return value
