"""``gen_test`` and ``gen_cluster``: a coroutine becomes a test, with a loop and a cluster in this process around it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import io
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from distributed.client import Client
from distributed.rpc.loop_runner import new_asyncio_loop
from distributed.scheduler import Scheduler
from distributed.testing.environment import clean, config_for_cluster_tests
from distributed.worker import Worker as DefaultWorker

logger = logging.getLogger("distributed.testing")

DEFAULT_NTHREADS: list[Any] = [("127.0.0.1", 1), ("127.0.0.1", 2)]


def run_async(coroutine_function: Callable[[], Any], timeout: float | None) -> Any:
    """Run on a fresh event loop. On a timeout the error says where every coroutine stood."""
    with asyncio.Runner(loop_factory=new_asyncio_loop) as runner:
        return runner.run(_within(coroutine_function(), timeout))


async def _within(coroutine: Coroutine[Any, Any, Any], timeout: float | None) -> Any:
    """The result of a test; TimeoutError that says where it stood."""
    task = asyncio.get_running_loop().create_task(coroutine)
    try:
        done, _ = await asyncio.wait([task], timeout=timeout)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if done:
        return task.result()
    text = io.StringIO()
    task.print_stack(file=text)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    if task.done() and not task.cancelled() and task.exception() is not None:
        text.write(f"\nWhile being cancelled: {task.exception()!r}")
    raise TimeoutError(f"test not done in {timeout} s\n========= where it stood =========\n{text.getvalue()}")


def gen_test(
    timeout: float = 30, config: dict[str, Any] | None = None, clean_kwargs: dict[str, Any] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a test of a coroutine function.

    Parameters
    ----------
    timeout : float
        Seconds after which the test fails.
    config : dict, optional
        Configuration while it runs.
    clean_kwargs : dict, optional
        Options of ``clean``, such as ``{"threads": False}``.

    Examples
    --------
    >>> @gen_test()
    ... async def test_nothing():
    ...     await asyncio.sleep(0)
    """
    if callable(timeout):
        raise TypeError("write @gen_test() with parentheses")

    def decorate(func: Callable[..., Any]) -> Callable[..., Any]:
        if not inspect.iscoroutinefunction(func):
            raise TypeError(f"gen_test needs an 'async def' function, not {func!r}")

        @functools.wraps(func)
        def test(*args: Any, **kwargs: Any) -> Any:
            with clean(**(clean_kwargs or {})), config_for_cluster_tests(**(config or {})):
                return run_async(lambda: func(*args, **kwargs), timeout)

        return test

    return decorate


async def start_cluster(
    nthreads: Iterable[Any],
    scheduler_addr: str,
    security: Any = None,
    Worker: Any = DefaultWorker,
    scheduler_kwargs: dict[str, Any] | None = None,
    worker_kwargs: dict[str, Any] | None = None,
) -> tuple[Scheduler, list[Any]]:
    """A scheduler and one worker for each ``(host, threads[, options])``, all in this process and registered."""
    options: dict[str, Any] = {"dashboard": False, "dashboard_address": ":0", "port": 0, "validate": True}
    scheduler = await Scheduler(**{**options, "host": scheduler_addr, "security": security, **(scheduler_kwargs or {})})
    workers = []
    for i, (host, threads, *more) in enumerate(nthreads):
        worker_options: dict[str, Any] = {
            "nthreads": threads,
            "name": i,
            "security": security,
            "validate": True,
            "host": host,
            **(worker_kwargs or {}),
            **(more[0] if more else {}),
        }
        workers.append(Worker(scheduler.address, **worker_options))
    try:
        await asyncio.gather(*[_begin(worker) for worker in workers])
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 30
        while len(scheduler.workers) < len(workers):
            if loop.time() > deadline:
                raise TimeoutError(f"only {len(scheduler.workers)} of {len(workers)} workers have come")
            await asyncio.sleep(0.005)
    except BaseException:
        await end_cluster(scheduler, workers)
        raise
    return scheduler, workers


async def _begin(server: Any) -> None:
    await server


async def end_cluster(s: Any, workers: Iterable[Any]) -> None:
    """Close all."""

    async def end(server: Any) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.TimeoutError):
            await server.close()

    await asyncio.gather(*[end(worker) for worker in workers])
    await s.close()


def gen_cluster(
    nthreads: list[Any] | None = None,
    scheduler: str = "127.0.0.1",
    timeout: float = 30,
    security: Any = None,
    Worker: Any = DefaultWorker,
    client: bool = False,
    scheduler_kwargs: dict[str, Any] | None = None,
    worker_kwargs: dict[str, Any] | None = None,
    client_kwargs: dict[str, Any] | None = None,
    active_rpc_timeout: float = 1,
    config: dict[str, Any] | None = None,
    clean_kwargs: dict[str, Any] | None = None,
    allow_unclosed: bool = True,
    cluster_dump_directory: str | bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a test of a coroutine function that gets a scheduler, its workers and (``client=True``, first) a client.

    Parameters
    ----------
    nthreads : list of (host, threads[, options of the worker]), optional
        One worker each; default: two, with one and two threads. ``[]``: none.
    scheduler : str
        Host on which the scheduler listens.
    timeout : float
        Seconds after which the test fails.
    security : Security, optional
    Worker : type
        Class of the workers, for instance ``Nanny``.
    client : bool
        Whether to pass an asynchronous client.
    scheduler_kwargs, worker_kwargs, client_kwargs : dict, optional
        Further options of each.
    active_rpc_timeout, allow_unclosed, cluster_dump_directory
        Accepted, without effect.
    config : dict, optional
        Configuration while the test runs.
    clean_kwargs : dict, optional
        Options of ``clean``.

    Examples
    --------
    >>> @gen_cluster(client=True)
    ... async def test_inc(c, s, a, b):
    ...     assert await c.submit(inc, 1) == 2
    """
    if callable(nthreads):
        raise TypeError("write @gen_cluster() with parentheses")
    layout = DEFAULT_NTHREADS if nthreads is None else list(nthreads)
    n_given = int(client) + 1 + len(layout)

    def decorate(func: Callable[..., Any]) -> Callable[..., Any]:
        if not inspect.iscoroutinefunction(func):
            raise TypeError(f"gen_cluster needs an 'async def' function, not {func!r}")

        @functools.wraps(func)
        def test(*outer_args: Any, **kwargs: Any) -> Any:
            async def run() -> Any:
                s, workers = await start_cluster(
                    layout, scheduler, security, Worker, scheduler_kwargs=scheduler_kwargs, worker_kwargs=worker_kwargs
                )
                try:
                    given: list[Any] = [s, *workers]
                    async with contextlib.AsyncExitStack() as stack:
                        if client:
                            c = Client(s.address, asynchronous=True, security=security, **(client_kwargs or {}))
                            given.insert(0, await stack.enter_async_context(c))
                        return await _within(func(*outer_args, *given, **kwargs), timeout)
                finally:
                    await asyncio.wait_for(end_cluster(s, workers), 30)

            with clean(**(clean_kwargs or {})), config_for_cluster_tests(**(config or {})):
                return run_async(run, timeout + 60)

        test.__signature__ = _without_given(func, n_given)  # type: ignore[attr-defined]
        return test

    return decorate


def _without_given(func: Callable[..., Any], n_given: int) -> inspect.Signature:
    """The parameters that pytest has to fill: all but the client, scheduler and workers (and ``self``)."""
    signature = inspect.signature(func)
    parameters = list(signature.parameters.values())
    is_method = bool(parameters) and parameters[0].name == "self"
    head = parameters[:1] if is_method else []
    rest = parameters[1:] if is_method else parameters
    positional = [p for p in rest if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:n_given]
    kept = [p for p in rest if p not in positional and p.kind is not p.VAR_POSITIONAL]
    return signature.replace(parameters=[*head, *kept])


def validate_state(*servers: Any) -> None:
    """Check every table of each scheduler and worker against its rules."""
    for server in servers:
        check = getattr(server, "validate_state", None) or getattr(getattr(server, "state", None), "validate", None)
        if check is not None:
            check()
