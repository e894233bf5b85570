"""What a client asks of the cluster as a whole: who holds what, run it everywhere, workers, events, datasets, plugins.

Thin: each method checks its arguments and hands over to :class:`Admin` or :class:`Publisher`. A base of
:class:`Client`, which brings the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from distributed.base.handover import noted_futures
from distributed.base.keys import as_key
from distributed.client.admin import NO_DEFAULT, ON_ERROR, Admin, keys_of, read_upload
from distributed.client.datasets import Datasets, Publisher, named
from distributed.client.detached import cancel_detached, checked_keys, list_detached
from distributed.client.event_handlers import EventHandlers, log_record, topic_name, topic_names
from distributed.client.options import worker_names
from distributed.client.session import Session
from distributed.client.timeouts import seconds
from distributed.messages.client_to_scheduler import ClientLogEvent
from distributed.plugins import NannyPlugin, SchedulerPlugin, SetupCallback, WorkerPlugin, plugin_name
from distributed.plugins.output import ForwardLoggingPlugin, forwarding_name
from distributed.rpc.loop_runner import SyncMethodMixin

logger = logging.getLogger("distributed.client")

FORWARDED_LOGS = "forwarded-log-record"


class ClusterCalls(SyncMethodMixin):
    """The methods of a client that concern the cluster, not single tasks."""

    session: Session
    admin: Admin
    publisher: Publisher
    event_handlers: EventHandlers

    def run(
        self,
        function: Callable[..., Any],
        *args: Any,
        workers: Any = None,
        wait: bool = True,
        nanny: bool = False,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> Any:
        """Call a function on every worker, outside of the task system.

        Parameters
        ----------
        function : callable
            If it has a parameter ``dask_worker`` it gets the Worker object.
        workers : str or list of str, optional
            Where; default: everywhere.
        wait : bool
            Whether to wait for the results.
        nanny : bool
            Whether to run on the nannies instead.
        on_error : str
            ``"raise"``, ``"return"`` the exception as the result, or ``"ignore"`` workers that fail.

        Returns
        -------
        dict of address to result
        """
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error={on_error!r} is none of 'raise', 'return' and 'ignore'")
        if not callable(function):
            raise TypeError(f"the first argument of run must be callable, not {function!r}")
        pack = self.admin.pack
        with noted_futures() as held:
            packed = pack(function), pack(args), pack(kwargs)
        return self.sync(self.admin.run, *packed, workers, bool(wait), bool(nanny), on_error, held)

    def run_on_scheduler(self, function: Callable[..., Any], *args: Any, wait: bool = True, **kwargs: Any) -> Any:
        """Call a function in the scheduler's process; a parameter ``dask_scheduler`` gets the Scheduler object."""
        if not callable(function):
            raise TypeError(f"the first argument of run_on_scheduler must be callable, not {function!r}")
        pack = self.admin.pack
        return self.sync(self.admin.run_on_scheduler, pack(function), pack(args), pack(kwargs), bool(wait))

    def wait_for_workers(self, n_workers: int, timeout: Any = None) -> Any:
        """Wait until at least ``n_workers`` workers are there.

        Raises
        ------
        WorkerStartTimeoutError
            Not so many within ``timeout`` seconds.
        """
        if isinstance(n_workers, bool) or not isinstance(n_workers, int) or n_workers < 1:
            raise ValueError(f"n_workers= must be a whole number above zero, not {n_workers!r}")
        return self.sync(self.admin.wait_for_workers, n_workers, seconds(timeout), timeout)

    def restart(self, timeout: Any = NO_DEFAULT, wait_for_workers: bool = True) -> Any:
        """Cancel all tasks and start new worker processes. Futures of before are cancelled."""
        limit = None if timeout is NO_DEFAULT else seconds(timeout)
        return self.sync(self.admin.restart, limit, bool(wait_for_workers))

    def restart_workers(self, workers: list[str], timeout: Any = NO_DEFAULT, raise_for_error: bool = True) -> Any:
        """Start new processes for these workers."""
        limit = None if timeout is NO_DEFAULT else seconds(timeout)
        return self.sync(self.admin.restart_workers, workers, limit, raise_for_error)

    def retire_workers(self, workers: Any = None, close_workers: bool = True, **kwargs: Any) -> Any:
        """Move the data of workers to others, then close them."""
        return self.sync(self.admin.retire_workers, workers, close_workers, **kwargs)

    def who_has(self, futures: Any = None, **kwargs: Any) -> Any:
        """Which workers hold the value of each future: ``{key: (address, ...)}``. Default: all keys."""
        return self.sync(self.admin.who_has, keys_of(futures))

    def has_what(self, workers: Any = None, **kwargs: Any) -> Any:
        """Which keys each worker holds: ``{address: (key, ...)}``."""
        worker_names(workers)
        return self.sync(self.admin.has_what, workers)

    def nthreads(self, workers: Any = None, **kwargs: Any) -> Any:
        """Threads of each worker: ``{address: n}``."""
        worker_names(workers)
        return self.sync(self.admin.nthreads, workers)

    def ncores(self, workers: Any = None, **kwargs: Any) -> Any:
        """Old name of :meth:`nthreads`."""
        return self.nthreads(workers)

    def nbytes(self, keys: Any = None, summary: bool = True, **kwargs: Any) -> Any:
        """Bytes of each key, or with ``summary`` of all keys of each prefix."""
        return self.sync(self.admin.nbytes, keys_of(keys), bool(summary))

    def processing(self, workers: Any = None) -> Any:
        """Which tasks are assigned to each worker: ``{address: (key, ...)}``."""
        worker_names(workers)
        return self.sync(self.admin.processing, workers)

    def story(self, *keys_or_stimuli: Any, on_error: str = "raise") -> Any:
        """What the scheduler has done with these keys, transition by transition."""
        return self.sync(self.admin.story, keys_or_stimuli)

    def why(self, future: Any) -> Any:
        """Why a task has not ended: what it waits for, how many are queued before it, what no worker offers.

        Parameters
        ----------
        future : Future or key

        Returns
        -------
        dict
            ``text`` says it in words; ``state`` is the scheduler's. ``waiting_on``, ``queued_behind``, ``unsatisfied``,
            ``worker``, ``executing_s`` (seconds, -1 when not known) and ``fetching`` are the same for programs;
            ``there`` is what the worker says that has the task, None when it has none or does not answer.

        Examples
        --------
        >>> client.why(client.submit(abs, 1, resources={"GPU": 1}))["text"]  # doctest: +SKIP
        """
        return self.sync(self.admin.why, future)

    def call_stack(self, futures: Any = None, keys: Any = None) -> Any:
        """The stacks of running tasks, by worker and key."""
        return self.sync(self.admin.call_stack, keys_of(futures if futures is not None else keys))

    def upload_file(self, filename: Any, load: bool = True) -> Any:
        """Put a module (``.py``) or package (``.zip``, ``.egg``) on all workers, also on those that come later.

        Parameters
        ----------
        load : bool
            Whether the workers import it at once.
        """
        name, data = read_upload(filename)
        return self.sync(self.admin.upload_file, name, data, bool(load))

    def get_versions(self, check: bool = False, packages: Iterable[str] | None = None) -> Any:
        """Versions of Python and packages at the client, the scheduler and the workers.

        Parameters
        ----------
        check : bool
            Whether a mismatch raises ``ValueError``.
        packages : list of str, optional
            More packages to look at.
        """
        return self.sync(self.admin.get_versions, bool(check), list(packages or ()))

    def set_metadata(self, key: Any, value: Any) -> Any:
        """Store plain data on the scheduler, under a key or a path of keys."""
        return self.sync(self.admin.set_metadata, _path(key), value)

    def get_metadata(self, keys: Any, default: Any = NO_DEFAULT) -> Any:
        """What :meth:`set_metadata` has stored. Raises ``KeyError`` when there is nothing and no ``default``."""
        return self.sync(self.admin.get_metadata, _path(keys), default)

    def log_event(self, topic: Any, msg: Any) -> Any:
        """Append a message to the events of a topic (or of several)."""
        topics = topic_names(topic)
        self.session.check_open("log-event")
        self.session.post(ClientLogEvent(topics, msg))
        return nothing() if self.asynchronous else None

    def get_events(self, topic: str | None = None) -> Any:
        """The events of a topic, or of all topics."""
        return self.sync(self.admin.get_events, topic if topic is None else topic_name(topic))

    def subscribe_topic(self, topic: str, handler: Callable[[Any], Any]) -> Any:
        """Have ``handler(event)``, a function or coroutine function, called on the client's loop for each new event."""
        if not callable(handler):
            raise TypeError(f"a handler must be callable, not {handler!r}")
        self.event_handlers.add(topic_name(topic), handler)
        return self.sync(self.admin.subscribe, topic)

    def unsubscribe_topic(self, topic: str) -> Any:
        """No more events of this topic."""
        self.event_handlers.remove(topic_name(topic))
        return self.sync(self.admin.unsubscribe, topic)

    def forward_logging(self, logger_name: str | None = None, level: int | str = logging.NOTSET) -> Any:
        """Have the workers' log records handled by the logger of the same name here.

        Parameters
        ----------
        logger_name
            The logger and those below it; None: all.
        level
            Records below are not sent.
        """
        plugin = ForwardLoggingPlugin(logger_name, level, FORWARDED_LOGS)
        return self.sync(self._forward_logging, plugin)

    async def _forward_logging(self, plugin: ForwardLoggingPlugin) -> None:
        if FORWARDED_LOGS not in self.event_handlers.by_topic:
            self.event_handlers.add(FORWARDED_LOGS, log_record)
            await self.admin.subscribe(FORWARDED_LOGS)
        await self.admin.register_plugin("worker", self.admin.pack(plugin), forwarding_name(plugin.logger_name), False)

    def unforward_logging(self, logger_name: str | None = None) -> Any:
        """End what :meth:`forward_logging` began for this logger."""
        return self.unregister_worker_plugin(forwarding_name(logger_name))

    def publish_dataset(self, *args: Any, name: Any = None, override: bool = False, **kwargs: Any) -> Any:
        """Keep values, mostly persisted collections or futures, on the cluster for other clients.

        Parameters
        ----------
        *args
            A dict of names and values; or with ``name`` one value.
        override : bool
            Whether to replace what has the same name; else that raises ``KeyError``.
        **kwargs
            More values, by name.
        """
        return self.sync(self.publisher.publish, named(args, name, kwargs), bool(override))

    def get_dataset(self, name: Any, default: Any = NO_DEFAULT, **kwargs: Any) -> Any:
        """What was published under ``name``. Raises ``KeyError`` when there is nothing and no ``default``."""
        return self.sync(self.publisher.get, name, default, default is NO_DEFAULT)

    def list_detached(self) -> Any:
        """The jobs of ``fire_and_forget``, of all clients, that have not ended.

        Returns
        -------
        dict
            ``{key: {"state": ..., "worker": address or ""}}``, oldest first.
        """
        return self.sync(list_detached, self.session)

    def cancel_detached(self, keys: Any = None, reason: str | None = None, msg: str | None = None) -> Any:
        """Cancel jobs of ``fire_and_forget``, whichever client has made them; see :meth:`cancel`.

        Parameters
        ----------
        keys : key, future, or list of these, optional
            Default: all of them. What is no such job is left alone.
        reason, msg : str, optional
            For who waits for what needs them.

        Returns
        -------
        list
            The keys of the jobs. A job of which some client still holds a future goes on.
        """
        return self.sync(cancel_detached, self.session, checked_keys(keys), reason or "unknown", msg or "")

    def list_datasets(self, **kwargs: Any) -> Any:
        """The names of all published datasets."""
        return self.sync(self.publisher.names)

    def unpublish_dataset(self, name: Any, **kwargs: Any) -> Any:
        """Forget a published dataset."""
        return self.sync(self.publisher.delete, name)

    @property
    def datasets(self) -> Datasets:
        """What is published, as a mapping."""
        return Datasets(self)

    def register_worker_callbacks(self, setup: Callable[..., Any] | None = None) -> Any:
        """Call ``setup`` (with ``dask_worker=`` if it takes that) on every worker, also on those that come later."""
        return self.register_plugin(SetupCallback(setup))

    def get_scheduler_logs(self, n: int | None = None) -> Any:
        """The last ``n`` lines of the scheduler's log: pairs of level and text, oldest first."""
        _must_be_count(n)
        return self.sync(self.admin.get_logs, n)

    def get_worker_logs(self, n: int | None = None, workers: Any = None, nanny: bool = False) -> Any:
        """The last ``n`` lines of each worker's (or nanny's) log."""
        _must_be_count(n)
        return self.sync(self.admin.worker_logs, n, workers, bool(nanny))

    def replicate(
        self, futures: Any, n: int | None = None, workers: Any = None, branching_factor: int = 2, **kwargs: Any
    ) -> Any:
        """Copy the values of futures to ``n`` workers.

        Parameters
        ----------
        n : int, optional
            How many workers hold each value in the end. Default: all of them.
        workers : list, optional
            Those that may hold the copies: addresses, names or hosts.
        branching_factor : int
            Into how many workers each holder of a value copies it in one round; those that have it then copy it on.
        """
        for name, number in (("n", n), ("branching_factor", branching_factor)):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
                raise TypeError(f"{name}= must be a whole number, not {number!r}")
        if n is not None and n <= 0:
            raise ValueError("replicate makes copies, it does not delete: n must be at least 1")
        if branching_factor < 1:
            raise ValueError(f"branching_factor= must be at least 1, not {branching_factor}: nothing would be copied")
        return self.sync(self.admin.replicate, futures, n, workers, branching_factor)

    def rebalance(self, futures: Any = None, workers: Any = None, **kwargs: Any) -> Any:
        """Even out the memory of the workers."""
        return self.sync(self.admin.rebalance, futures, workers)

    def register_plugin(self, plugin: Any, name: str | None = None, idempotent: bool | None = None) -> Any:
        """Give a plugin to the scheduler, to all workers or to all nannies, as its type says.

        Parameters
        ----------
        plugin : SchedulerPlugin, WorkerPlugin or NannyPlugin
        name : str, optional
            Default: the plugin's own name.
        """
        kinds = {SchedulerPlugin: "scheduler", WorkerPlugin: "worker", NannyPlugin: "nanny"}
        kind = next((kind for base, kind in kinds.items() if isinstance(plugin, base)), None)
        if isinstance(plugin, type):
            raise TypeError("a plugin must be an object, not its class: write MyPlugin(), not MyPlugin")
        if kind is None:
            raise TypeError(
                "a plugin's class must be made from SchedulerPlugin, WorkerPlugin or NannyPlugin, which "
                f"{type(plugin).__name__} is not"
            )
        once = bool(getattr(plugin, "idempotent", False) if idempotent is None else idempotent)
        return self.sync(self.admin.register_plugin, kind, self.admin.pack(plugin), plugin_name(plugin, name), once)

    def unregister_worker_plugin(self, name: str, nanny: bool | None = None) -> Any:
        """Take a plugin away from all workers (or nannies)."""
        return self.sync(self.admin.unregister_plugin, "nanny" if nanny else "worker", name)

    def unregister_scheduler_plugin(self, name: str) -> Any:
        """Take a plugin away from the scheduler."""
        return self.sync(self.admin.unregister_plugin, "scheduler", name)

    def _subscribe_again(self) -> None:
        """A new session knows nothing of what the one before subscribed to."""
        for topic in self.event_handlers.by_topic:
            task = asyncio.ensure_future(self.admin.subscribe(topic))
            task.add_done_callback(seen)


async def nothing() -> None:
    """What to await where there is nothing to wait for."""


def seen(task: asyncio.Task[Any]) -> None:
    """Done callback of tasks whose error nobody asks for."""
    if not task.cancelled():
        task.exception()


def _must_be_count(n: Any) -> None:
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 0):
        raise TypeError(f"n= must be a number of lines, or None for all, not {n!r}")


def _path(keys: Any) -> list[Any]:
    return [as_key(key) for key in keys] if isinstance(keys, (list, tuple)) else [as_key(keys)]
