"""The base class of plugins that run in the scheduler. Empty hooks only."""

from __future__ import annotations

from typing import Any


class SchedulerPlugin:
    """Code that runs in the scheduler's process and hears what happens there.

    Override what you need; a hook that is not overridden costs nothing. Register an instance with
    ``client.register_plugin``, ``Scheduler(plugins=[...])``, or ``scheduler.add_plugin`` in a ``--preload`` file. Hooks
    run on the event loop: they must be quick. What they raise is logged and harms nobody else.

    Attributes
    ----------
    name
        What the plugin is called; default: its class name with a random ending.
    idempotent
        Whether registering it again under the same name does nothing (else it replaces the first).

    Examples
    --------
    >>> class Arrivals(SchedulerPlugin):
    ...     name = "arrivals"
    ...     def add_worker(self, scheduler, worker):
    ...         scheduler.log_event("arrivals", f"{worker} is number {len(scheduler.workers)}")
    """

    name: str | None = None
    idempotent: bool = False

    async def start(self, scheduler: Any) -> None:
        """The scheduler starts, or the plugin was added to one that runs."""

    async def before_close(self) -> None:
        """The scheduler is about to close; workers and clients are still connected."""

    async def close(self) -> None:
        """The scheduler closes, or the plugin was removed by its client."""

    def update_graph(
        self,
        scheduler: Any,
        *,
        client: str,
        keys: set[Any],
        tasks: list[Any],
        annotations: dict[str, dict[Any, Any]],
        priority: dict[Any, tuple[Any, ...]],
        stimulus_id: str,
        **kwargs: Any,
    ) -> None:
        """A client has submitted tasks.

        Parameters
        ----------
        client
            Id of the client.
        keys
            Keys that the client wants.
        tasks
            Keys of all tasks of this submission (or of this part of a large one).
        annotations
            ``{annotation: {key: value}}``, those that the engine knows (``priority``, ``retries``, ...) included.
        priority
            ``{key: tuple}``; the smaller runs first.
        """

    def restart(self, scheduler: Any) -> None:
        """All tasks were forgotten and all workers are being replaced."""

    def transition(self, key: Any, start: str, finish: str, *args: Any, stimulus_id: str, **kwargs: Any) -> None:
        """A task went from state ``start`` to ``finish``.

        Parameters
        ----------
        stimulus_id
            Names the event that caused it.
        kwargs
            ``worker`` (address), and for a task that has run ``nbytes``, ``type``, ``thread``, ``startstops``,
            ``metadata``.
        """

    def add_worker(self, scheduler: Any, worker: str) -> Any:
        """A worker has registered; ``worker`` is its address. May be a coroutine function."""

    def remove_worker(self, scheduler: Any, worker: str, *, stimulus_id: str, **kwargs: Any) -> Any:
        """A worker has left, in order (``kwargs["expected"]``) or not. May be a coroutine function."""

    def add_client(self, scheduler: Any, client: str) -> None:
        """A client has connected."""

    def remove_client(self, scheduler: Any, client: str) -> None:
        """A client has left."""

    def valid_workers_downscaling(self, scheduler: Any, workers: list[Any]) -> list[Any]:
        """Those of ``workers`` (WorkerState) that adaptive scaling may close."""
        return workers

    def log_event(self, topic: str, msg: Any) -> None:
        """An event was logged."""
