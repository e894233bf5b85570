"""What a client is for: tasks and graphs in, futures and values out. Thin: each method checks its arguments and hands
over to the submitter, the graph submitter, the gatherer or the scatterer. A base of :class:`Client`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed.base import defaults, settings
from distributed.client.admin import NO_DEFAULT
from distributed.client.cluster_calls import nothing
from distributed.client.executor import ClientExecutor
from distributed.client.futures import Future, futures_of
from distributed.client.gathering import Gatherer
from distributed.client.graph import GraphSubmitter, nested
from distributed.client.graph_annotations import flatten
from distributed.client.options import fifo_seconds, is_for_actor, make_options
from distributed.client.run_rules import OWN, take_own
from distributed.client.scatter import Scatterer
from distributed.client.session import Session
from distributed.client.submission import Submitter
from distributed.rpc.loop_runner import SyncMethodMixin


class TaskCalls(SyncMethodMixin):
    """The methods of a client that concern tasks and their values."""

    session: Session
    submitter: Submitter
    graphs: GraphSubmitter
    gatherer: Gatherer
    scatterer: Scatterer

    def submit(
        self,
        func: Callable[..., Any],
        *args: Any,
        key: Any = None,
        workers: Any = None,
        resources: Any = None,
        retries: int | None = None,
        priority: float = 0,
        fifo_timeout: Any = "100 ms",
        allow_other_workers: bool = False,
        actor: bool = False,
        actors: bool = False,
        pure: bool = True,
        **kwargs: Any,
    ) -> Future:
        """Run ``func(*args, **kwargs)`` on the cluster.

        Parameters
        ----------
        func : callable
        *args, **kwargs
            Its arguments. Futures among them, also inside of lists, tuples, sets and dicts, stand for their values.
        key : str, bytes, int, float or tuple, optional
            Name of the task. Default: made from the function's name and a hash of the call.
        workers : str or list of str, optional
            Addresses, names or hosts of the workers that may run it.
        resources : dict, optional
            What it needs of each resource, such as ``{"GPU": 1}``.
        retries : int or Retry, optional
            How often to run it again when it raises; :class:`Retry` also says after what wait, and on which exceptions.
        priority : float
            Tasks of higher priority run first.
        fifo_timeout : float or str
            Submissions that follow each other faster than this are one generation.
        allow_other_workers : bool
            Whether ``workers`` is a wish only.
        actor, actors : bool
            Whether the value is a stateful object that stays on its worker.
        pure : bool
            Whether equal calls are one task. False: this is a task of its own.
        timeout : float or str
            How long a run may take; behind that the future has a ``TaskTimeoutError``. (This, and the next two, unless
            ``func`` takes a keyword of that name: then it is an argument.)
        isolated : bool
            Whether it runs in a process of its own, which is killed when the task is cancelled or takes too long.
        max_restarts : int
            How often an actor is made anew when its worker is lost.

        Returns
        -------
        Future

        Examples
        --------
        >>> client.submit(max, 1, 2).result()  # doctest: +SKIP
        2
        """
        if not callable(func):
            raise TypeError(f"submit runs a function: its first argument must be callable, not {func!r}")
        around = _annotations()
        options = None
        own: dict[str, Any] = {}
        if kwargs and not OWN.isdisjoint(kwargs):
            own, kwargs = take_own(func, kwargs)
        if (
            around
            or own
            or workers is not None
            or resources is not None
            or retries is not None
            or priority != 0
            or allow_other_workers is not False
            or actor
            or actors
        ):
            if allow_other_workers not in (True, False, None):
                raise TypeError(f"allow_other_workers= takes True or False, not {allow_other_workers!r}")
            if allow_other_workers and workers is None:
                raise ValueError("allow_other_workers= has a meaning only together with workers=")
            is_actor = is_for_actor(actor, actors)
            if is_actor:
                pure = False
            options = make_options(priority, retries, workers, allow_other_workers, resources, is_actor, around, **own)
        fifo = 0.1 if fifo_timeout == "100 ms" else fifo_seconds(fifo_timeout)
        return self.submitter.submit(func, args, kwargs, key, options, fifo, pure)

    def map(
        self,
        func: Callable[..., Any],
        *iterables: Any,
        key: Any = None,
        workers: Any = None,
        retries: int | None = None,
        resources: Any = None,
        priority: float = 0,
        allow_other_workers: bool = False,
        fifo_timeout: Any = "100 ms",
        actor: bool = False,
        actors: bool = False,
        pure: bool = True,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[Future]:
        """Run ``func`` on each element of the iterables (zipped; the shortest ends it), as tasks of their own.

        Tasks leave in parts while the iterables, which may be generators, are still read.

        Parameters
        ----------
        key : str or list, optional
            Prefix of the names, or a name for each call.
        batch_size : int, optional
            Send so many at a time, each batch a generation of its own, so that what follows a batch runs before the
            next.
        **kwargs
            Arguments of every call; a large one is sent once.

        The other parameters are those of :meth:`submit`.

        Returns
        -------
        list of Future

        Examples
        --------
        >>> client.gather(client.map(abs, [-1, 2]))  # doctest: +SKIP
        [1, 2]
        """
        if not callable(func):
            raise TypeError(f"map runs a function: its first argument must be callable, not {func!r}")
        if allow_other_workers not in (True, False, None):
            raise TypeError(f"allow_other_workers= takes True or False, not {allow_other_workers!r}")
        if allow_other_workers and workers is None:
            raise ValueError("allow_other_workers= has a meaning only together with workers=")
        if batch_size is not None and (
            isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 0
        ):
            raise ValueError(f"batch_size= must be a positive whole number, not {batch_size!r}")
        is_actor = is_for_actor(actor, actors)
        if is_actor:
            pure = False
        own: dict[str, Any] = {}
        if kwargs and not OWN.isdisjoint(kwargs):
            own, kwargs = take_own(func, kwargs)
        options = make_options(
            priority, retries, workers, allow_other_workers, resources, is_actor, _annotations(), **own
        )
        return self.submitter.map(
            func, iterables, kwargs, key, options, fifo_seconds(fifo_timeout), pure, batch_size or None
        )

    def gather(
        self, futures: Any, errors: str = "raise", direct: bool | None = None, asynchronous: bool | None = None
    ) -> Any:
        """The values of futures, in the nesting in which the futures come.

        Parameters
        ----------
        futures : Future, or nested list, tuple, set or dict of futures
        errors : str
            ``"raise"``: a failed task's exception is raised; ``"skip"``: failed ones are left out.
        direct : bool, optional
            Whether to ask the workers (default) or the scheduler.

        Examples
        --------
        >>> client.gather({"a": client.submit(abs, -1)})  # doctest: +SKIP
        {'a': 1}
        """
        if self.session.status == "closed" and not asynchronous:
            self.gatherer.collect(futures)
        return self.gatherer.gather(futures, errors, direct, asynchronous)

    def scatter(
        self,
        data: Any,
        workers: Any = None,
        broadcast: bool | int = False,
        direct: bool | None = None,
        hash: bool = True,
        timeout: Any = NO_DEFAULT,
        asynchronous: bool | None = None,
    ) -> Any:
        """Put data on workers.

        Parameters
        ----------
        data : list, tuple, set, dict, or anything else
            The elements of collections, or the values of a dict under their keys; other objects as one.
        workers : str or list of str, optional
            Where to; default: spread over all.
        broadcast : bool or int
            Whether each worker (or that many of them) gets a copy.
        direct : bool, optional
            Whether to send to the workers straight (default), or by the scheduler.
        hash : bool
            Whether equal data has the same key.
        timeout : float or str, optional
            Seconds to wait for the first worker.

        Returns
        -------
        Futures in the shape of ``data``.
        """
        limit = None if timeout is NO_DEFAULT else timeout
        return self.scatterer.scatter(data, workers, broadcast, direct, hash, limit, asynchronous)

    def cancel(
        self,
        futures: Any,
        asynchronous: bool | None = None,
        force: bool = False,
        reason: str | None = None,
        msg: str | None = None,
    ) -> Any:
        """Stop tasks, and forget the values of those that have ended, unless another client wants them too.

        A task that runs is told to end (:func:`current_task_cancelled`) and interrupted when it does not; see
        ``docs/TASKS.md``. Its future is cancelled at once.

        Parameters
        ----------
        futures : Future or nested collection of futures
        force : bool
            Even if another client wants them.
        reason, msg : str, optional
            Told by the error that the futures' results raise.
        """
        found = futures_of(futures)
        self.session.check_open("cancel-keys")
        keys = [future._bound().key for future in found if future._bound().status != "cancelled"]
        if keys:
            self.session.cancel(keys, bool(force), reason or "unknown", msg or "")
        return nothing() if asynchronous or (asynchronous is None and self.asynchronous) else None

    def retry(self, futures: Any, asynchronous: bool | None = None) -> Any:
        """Run failed tasks again.

        Parameters
        ----------
        futures : Future or nested collection of futures
        """
        self.session.retry([future._bound().key for future in futures_of(futures)])
        return nothing() if asynchronous or (asynchronous is None and self.asynchronous) else None

    def get(
        self,
        dsk: Any,
        keys: Any,
        workers: Any = None,
        allow_other_workers: bool | None = None,
        resources: Any = None,
        sync: bool = True,
        asynchronous: bool | None = None,
        direct: bool | None = None,
        retries: int | None = None,
        priority: float = 0,
        fifo_timeout: Any = "60s",
        actors: Any = None,
        **kwargs: Any,
    ) -> Any:
        """The values of some keys of a graph.

        Parameters
        ----------
        dsk : dict, HighLevelGraph or expression
        keys : key, or nested list of keys
        sync : bool
            False: futures instead of values.

        Returns
        -------
        Values (or futures) in the nesting of ``keys``.

        Examples
        --------
        >>> client.get({"x": (abs, -1), "y": (abs, "x")}, "y")  # doctest: +SKIP
        1
        """
        options = _graph_options(workers, allow_other_workers, resources, retries, priority)
        futures = self.graphs.submit(dsk, flatten(keys), options, fifo_seconds(fifo_timeout), actors)
        packed = nested(keys, futures)
        if not sync:
            return packed
        return self.gather(packed, direct=direct, asynchronous=asynchronous)

    def compute(
        self,
        collections: Any,
        sync: bool = False,
        optimize_graph: bool = True,
        workers: Any = None,
        allow_other_workers: bool = False,
        resources: Any = None,
        retries: int = 0,
        priority: float = 0,
        fifo_timeout: Any = "60s",
        actors: Any = None,
        traverse: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Compute dask collections; one future for each (or its value, with ``sync``). Other objects come back as they
        are.
        """
        options = _graph_options(workers, allow_other_workers, resources, retries, priority)
        found, single = self.graphs.compute(
            collections, optimize_graph, traverse, options, fifo_seconds(fifo_timeout), actors
        )
        if sync:
            return self.gather(found[0] if single else found)
        return found[0] if single else found

    def persist(
        self,
        collections: Any,
        optimize_graph: bool = True,
        workers: Any = None,
        allow_other_workers: bool | None = None,
        resources: Any = None,
        retries: int | None = None,
        priority: float = 0,
        fifo_timeout: Any = "60s",
        actors: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Start computing dask collections; the same collections come back, made of futures."""
        options = _graph_options(workers, allow_other_workers, resources, retries, priority)
        return self.graphs.persist(collections, optimize_graph, options, fifo_seconds(fifo_timeout), actors)

    def normalize_collection(self, collection: Any) -> Any:
        """The collection on top of futures that this client holds already. Nothing to do here: the scheduler sees to
        it.
        """
        return collection

    def futures_of(self, futures: Any) -> list[Future]:
        """The futures inside of something; see :func:`distributed.futures_of`."""
        return futures_of(futures, client=self)

    def get_executor(self, **kwargs: Any) -> ClientExecutor:
        """A ``concurrent.futures`` view of the cluster.

        Parameters
        ----------
        **kwargs
            Options for every task: ``pure``, ``workers``, ``resources``, ``allow_other_workers``, ``retries``,
            ``priority``.
        """
        return ClientExecutor(self, **kwargs)


def _annotations() -> dict[str, Any] | None:
    """What ``dask.annotate`` says around the caller; None when nothing."""
    global _get_annotations
    if _get_annotations is None:
        settings.register()
        _get_annotations = defaults.load("dask:get_annotations")
    return _get_annotations() or None


_get_annotations: Any = None


def _graph_options(
    workers: Any, allow_other_workers: Any, resources: Any, retries: Any, priority: Any
) -> dict[str, Any]:
    if allow_other_workers not in (True, False, None):
        raise TypeError(f"allow_other_workers= takes True or False, not {allow_other_workers!r}")
    return {
        "workers": workers,
        "allow_other_workers": allow_other_workers,
        "resources": resources,
        "retries": retries,
        "priority": priority,
    }
