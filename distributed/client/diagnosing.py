"""What a client asks of a cluster that is to be understood: task stream, profile, dump, a task again at home.

Thin: each method checks its arguments and hands over to ``diagnostics/``, which is loaded when first needed. A base of
:class:`Client`.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any

from distributed.base import defaults
from distributed.base.keys import as_key
from distributed.client.options import worker_names
from distributed.client.session import Session
from distributed.rpc.loop_runner import SyncMethodMixin

_ROOM = "distributed.diagnostics"


class Diagnosing(SyncMethodMixin):
    """The methods of a client that look into a cluster's work."""

    session: Session

    def get_task_stream(
        self,
        start: float | str | None = None,
        stop: float | str | None = None,
        count: int | None = None,
        plot: bool | str = False,
        filename: str = "task-stream.html",
        bokeh_resources: Any = None,
    ) -> Any:
        """Which tasks have run when and where. The scheduler records from the first call on.

        Parameters
        ----------
        start, stop
            Wall-clock seconds, or so long ago (``"5 min"``).
        count
            At most the last ones.
        plot
            True: return ``(records, picture)``; ``"save"``: write the picture to ``filename`` too.

        Returns
        -------
        list of dict
            ``key, worker, thread, status, nbytes, typename, startstops``.
        """
        moment = defaults.load(f"{_ROOM}.task_stream:moment")
        return self.sync(self._get_task_stream, moment(start), moment(stop), count, plot, filename)

    async def _get_task_stream(self, start: Any, stop: Any, count: Any, plot: Any, filename: str) -> Any:
        records = await self.session.call("get_task_stream", start=start, stop=stop, count=count)
        if not plot:
            return records
        picture = defaults.load(f"{_ROOM}.pictures:task_stream_picture")(records)
        if plot == "save":
            picture.save(filename)
        return records, picture

    def profile(
        self,
        key: str | None = None,
        start: float | str | None = None,
        stop: float | str | None = None,
        workers: Any = None,
        merge_workers: bool = True,
        plot: bool | str = False,
        filename: str | None = None,
        server: bool = False,
        scheduler: bool = False,
    ) -> Any:
        """Where the workers' tasks spend their time, by samples of their threads.

        Parameters
        ----------
        key
            A key prefix, such as ``inc``; default: all tasks.
        start, stop
            Wall-clock seconds, or so long ago (``"5 min"``).
        workers
            Default: all.
        merge_workers
            False: a tree for each worker.
        plot
            True: return ``(tree, picture)``; ``"save"``, or with ``filename``: write the picture too.
        server, scheduler
            Only tasks are sampled here; True is refused.

        Returns
        -------
        dict
            ``identifier, description, count, children`` of the root.
        """
        if server or scheduler:
            raise ValueError("profile(server=True) and profile(scheduler=True): only tasks are sampled here")
        if (plot or filename) and not merge_workers:
            raise ValueError("a picture shows all workers together: use merge_workers=True with plot= or filename=")
        moment = defaults.load(f"{_ROOM}.task_stream:moment")
        question = {
            "workers": None if workers is None else list(worker_names(workers) or ()),
            "merge_workers": merge_workers,
            "start": moment(start),
            "stop": moment(stop),
            "key": key,
        }
        return self.sync(self._profile, question, plot, filename)

    async def _profile(self, question: dict[str, Any], plot: Any, filename: str | None) -> Any:
        tree = await self.session.call("profile", **question)
        if not plot and not filename:
            return tree
        picture = defaults.load(f"{_ROOM}.pictures:profile_picture")(tree)
        if plot == "save" or filename:
            picture.save(filename or "dask-profile.html")
        return tree, picture

    def dump_cluster_state(
        self,
        filename: str = "dask-cluster-dump",
        write_from_scheduler: bool | None = None,
        exclude: Collection[str] = (),
        format: str = "msgpack",
        **storage_options: Any,
    ) -> Any:
        """Write the state of the scheduler and all workers to a file.

        Parameters
        ----------
        filename
            Without the ending, which ``format`` adds; a URL is written with fsspec.
        write_from_scheduler
            Whether the scheduler writes it, where it runs; default: for URLs.
        exclude
            Names of fields to leave out.
        format
            ``msgpack`` or ``yaml``.

        See Also
        --------
        distributed.cluster_dump.DumpArtefact : reads it back.
        """
        if isinstance(exclude, str):
            raise TypeError("exclude= takes a list of names, not one string")
        write = defaults.load(f"{_ROOM}.cluster_dump:write")
        if format not in (formats := defaults.load(f"{_ROOM}.cluster_dump:FORMATS")):
            raise ValueError(f"format must be one of {', '.join(formats)}, not {format!r}")
        there = "://" in filename if write_from_scheduler is None else bool(write_from_scheduler)
        return self.sync(self._dump_cluster_state, write, str(filename), there, list(exclude), format, storage_options)

    async def _dump_cluster_state(
        self, write: Any, filename: str, there: bool, exclude: list[str], format: str, options: dict[str, Any]
    ) -> None:
        if there:
            await self.session.call(
                "dump_cluster_state_to_url", url=filename, exclude=exclude, format=format, **options
            )
        else:
            write(await self.session.call("dump_cluster_state", exclude=exclude), filename, format, **options)

    def benchmark_hardware(self) -> Any:
        """Bytes a second of the workers' memory, disks and network: ``{"memory": {"1 MiB": ...}, ...}``."""
        return self.sync(self.session.call, "benchmark_hardware")

    def recreate_task_locally(self, future: Any) -> Any:
        """Run a future's task again in this thread, where a debugger can follow it; returns what it returns.

        Raises
        ------
        ValueError
            For data that was scattered: there is nothing to run.
        """
        return self._at_home(future, False)

    def recreate_error_locally(self, future: Any) -> Any:
        """Run the task that failed again in this thread; for a future that failed by a dependency, that dependency.

        Raises
        ------
        ValueError
            The future has not failed.
        """
        return self._at_home(future, True)

    def _at_home(self, future: Any, blame: bool) -> Any:
        task_of = defaults.load(f"{_ROOM}.recreate:task_of")
        if self.asynchronous:
            return _run(task_of(self, future, blame))
        function, args, kwargs = self.sync(task_of, self, future, blame)
        return function(*args, **kwargs)

    def get_task_output(self, key: Any) -> Any:
        """What a task has printed with ``distributed.print`` (or, with :class:`ForwardOutput`, by any means), as one
        text. It is kept by the scheduler, so it is there after the worker's end; the oldest is dropped in time."""
        return self.sync(self._get_task_output, as_key(getattr(key, "key", key)))

    async def _get_task_output(self, key: Any) -> str:
        events = await self.session.call("get_events", topic="print")
        said = [message for _, message in events if isinstance(message, dict)]
        return "".join(message.get("text", "") for message in said if as_key(message.get("key") or "") == key)


async def _run(finding: Any) -> Any:
    function, args, kwargs = await finding
    value = function(*args, **kwargs)
    return await value if inspect.isawaitable(value) else value
