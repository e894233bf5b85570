"""Keeps the plugins of a worker: sets them up, tears them down, tells them of transitions. Errors are contained.
Shell."""

from __future__ import annotations

import inspect
import logging
import uuid
from typing import Any

from distributed.base.keys import user_key
from distributed.messages.payload import Payload
from distributed.protocol import serialize
from distributed.worker.state_machine.tables import Step

logger = logging.getLogger("distributed.worker")


def plugin_name(plugin: Any) -> str:
    """Its ``name``, or one made of its class and a random part."""
    name = getattr(plugin, "name", None)
    return str(name) if name else f"{type(plugin).__name__}-{uuid.uuid4()}"


class PluginHost:
    """The plugins of ``owner`` (a worker or a nanny), by name; ``watchers``: those that hear of transitions."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner
        self.plugins: dict[str, Any] = {}
        self.watchers: list[Any] = []
        self._last_step: Step | None = None

    async def add(self, plugin: Any, name: str | None = None) -> None:
        """Set a plugin up; one of the same name is torn down first. Raises what its ``setup`` raises."""
        if isinstance(plugin, Payload):
            plugin = serialize.loads(plugin)
        name = name or plugin_name(plugin)
        if name in self.plugins:
            await self.remove(name)
        self.plugins[name] = plugin
        logger.info("Starting plugin %s", name)
        setup = getattr(plugin, "setup", None)
        if setup is not None:
            result = _called(setup, self.owner)
            if inspect.isawaitable(result):
                await result
        if _overrides(plugin, "transition"):
            self.watchers.append(plugin)

    async def remove(self, name: str) -> None:
        """Tear a plugin down. Raises ``KeyError`` for an unknown name, and what its ``teardown`` raises."""
        plugin = self.plugins.pop(name)
        if plugin in self.watchers:
            self.watchers.remove(plugin)
        teardown = getattr(plugin, "teardown", None)
        if teardown is not None:
            result = _called(teardown, self.owner)
            if inspect.isawaitable(result):
                await result

    async def add_all(self, plugins: list[tuple[str | None, Any]], strict: bool = False) -> None:
        """Set up several; one that fails is logged, the others go on (``strict``: what it raises is raised)."""
        for name, plugin in plugins:
            try:
                await self.add(plugin, name)
            except Exception:
                if strict:
                    raise
                logger.exception("The plugin %s could not be set up", name or plugin_name(plugin))

    async def close(self) -> None:
        """Tear all down."""
        for name in list(self.plugins):
            try:
                await self.remove(name)
            except Exception:
                logger.exception("The plugin %s could not be torn down", name)

    def tell(self, steps: Any) -> None:
        """Tell of the transitions (a deque, newest last) that have come since the last call."""
        fresh: list[Step] = []
        for step in reversed(steps):
            if step is self._last_step:
                break
            fresh.append(step)
        if not fresh:
            return
        self._last_step = fresh[0]
        for _, key, start, finish, _ in reversed(fresh):
            for plugin in self.watchers:
                try:
                    plugin.transition(user_key(key), start, finish)
                except Exception:
                    logger.exception("Plugin %r failed in transition()", plugin)


def _called(hook: Any, owner: Any) -> Any:
    """Old plugins call their parameter ``worker`` or ``nanny``, and may want it by name; all take it by place."""
    return hook(owner)


def _overrides(plugin: Any, name: str) -> bool:
    method = getattr(type(plugin), name, None)
    return method is not None and not getattr(method, "__module__", "").startswith("distributed.plugins")
