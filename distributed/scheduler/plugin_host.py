"""Keeps the scheduler's plugins and calls their hooks. Errors are logged and go no further. Shell.

A hook that no plugin overrides costs one dict look-up. Hooks get the keyword arguments that their signature takes, so
plugins written for older releases work.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

from distributed.base.keys import user_key
from distributed.messages.worker_to_scheduler import TaskErred, TaskFinished
from distributed.plugins.names import plugin_name
from distributed.plugins.scheduler import SchedulerPlugin
from distributed.scheduler.state_machine import WorkerState
from distributed.scheduler.state_machine.instructions import Transitioned

logger = logging.getLogger("distributed.scheduler")


class PluginHost:
    """The plugins of one scheduler, by name.

    Parameters
    ----------
    scheduler
        What hooks get as ``scheduler``.
    spawn
        Runs what an asynchronous hook returns.
    changed
        Called when plugins have come or gone.
    """

    def __init__(
        self, scheduler: Any, spawn: Callable[[Coroutine[Any, Any, Any]], Any], changed: Callable[[], None]
    ) -> None:
        self.plugins: dict[str, Any] = {}
        self.scheduler = scheduler
        self._spawn = spawn
        self._changed = changed
        self._hooks: dict[str, list[tuple[str, Callable[..., Any]]]] = {}

    def add(self, plugin: Any, idempotent: bool = False, name: str | None = None) -> bool:
        """Take a plugin in; False when ``idempotent`` and one of this name is here."""
        if isinstance(plugin, type):
            raise TypeError(f"a plugin must be an object, not the class {plugin.__name__}")
        name = plugin_name(plugin, name)
        if name in self.plugins:
            if idempotent or getattr(plugin, "idempotent", False):
                return False
            warnings.warn(
                f"a scheduler plugin named {name!r} was there already and is replaced", UserWarning, stacklevel=3
            )
        self.plugins[name] = plugin
        self._hooks.clear()
        self._changed()
        return True

    def remove(self, name: str) -> Any:
        """Let a plugin go. Raises ValueError when there is none of this name."""
        try:
            plugin = self.plugins.pop(name)
        except KeyError:
            raise ValueError(f"the scheduler has no plugin named {name!r}") from None
        self._hooks.clear()
        self._changed()
        return plugin

    def hooks(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        """``(name, bound method)`` of each plugin that overrides this hook."""
        found = self._hooks.get(hook)
        if found is None:
            default = getattr(SchedulerPlugin, hook, None)
            found = []
            for name, plugin in self.plugins.items():
                method = getattr(plugin, hook, None)
                if method is not None and getattr(method, "__func__", method) is not default:
                    found.append((name, method))
            self._hooks[hook] = found
        return found

    def call(self, hook: str, *args: Any, **kwargs: Any) -> None:
        """Call the hook of every plugin that has it; an asynchronous one goes on in the background."""
        for name, method in self.hooks(hook):
            try:
                answer = method(*args, **_accepted(method, kwargs))
            except Exception:
                logger.exception("Plugin %r has failed in %s", name, hook)
                continue
            if inspect.isawaitable(answer):
                self._spawn(_contained(name, hook, answer))

    async def call_async(self, hook: str, *args: Any) -> None:
        """The same, and wait for all."""
        for name, method in list(self.hooks(hook)):
            try:
                answer = method(*args)
                if inspect.isawaitable(answer):
                    await answer
            except Exception:
                logger.exception("Plugin %r has failed in %s", name, hook)

    def transitions(self, transitions: list[Transitioned]) -> None:
        """Tell of transitions, in order."""
        methods = self.hooks("transition")
        if not methods:
            return
        for transition in transitions:
            kwargs = _transition_details(transition)
            key = user_key(transition.key)
            for name, method in methods:
                try:
                    method(key, transition.start, transition.finish, **kwargs)
                except Exception:
                    logger.exception("Plugin %r has failed in transition", name)

    def may_close(self, workers: list[WorkerState]) -> list[WorkerState]:
        """What ``valid_workers_downscaling`` of all plugins leaves of ``workers``."""
        for name, method in self.hooks("valid_workers_downscaling"):
            try:
                workers = list(method(self.scheduler, workers))
            except Exception:
                logger.exception("Plugin %r has failed in valid_workers_downscaling", name)
        return workers


def _transition_details(transition: Transitioned) -> dict[str, Any]:
    kwargs: dict[str, Any] = {"stimulus_id": transition.stimulus_id, "worker": transition.worker}
    event = transition.event
    if type(event) is TaskFinished and transition.finish == "memory":
        kwargs["nbytes"] = event.nbytes
        kwargs["type"] = kwargs["typename"] = event.type_name
        kwargs["status"] = "OK"
        kwargs["metadata"] = event.metadata
    elif type(event) is TaskErred and transition.finish == "erred":
        kwargs["status"] = "error"
        kwargs["cause"] = user_key(transition.key)
        kwargs["exception"] = event.error.exception
        kwargs["traceback"] = event.error.traceback
        kwargs["exception_text"] = f"{event.error.type_name}({event.error.message!r})"
        kwargs["traceback_text"] = event.error.traceback_text
    else:
        return kwargs
    kwargs["thread"] = event.thread
    start = event.started
    kwargs["startstops"] = [{"action": "compute", "start": start, "stop": start + event.duration_s}]
    return kwargs


async def _contained(name: str, hook: str, awaitable: Any) -> None:
    try:
        await awaitable
    except Exception:
        logger.exception("Plugin %r has failed in %s", name, hook)


def _accepted(method: Callable[..., Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(method).parameters
    except (TypeError, ValueError):
        return kwargs
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return kwargs
    return {name: value for name, value in kwargs.items() if name in parameters}
