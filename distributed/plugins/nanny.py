"""The base class of plugins that run in nannies, and :class:`Environ`. Empty hooks, and data on its way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class NannyPlugin:
    """Code that runs in every nanny, the process that starts and watches a worker process.

    Attributes
    ----------
    name
        What the plugin is called; registering another of the same name replaces it.
    restart
        Whether the worker processes are started anew once the plugin is in place.
    """

    name: str | None = None
    idempotent: bool = False
    restart: bool = False

    def setup(self, nanny: Any) -> Any:
        """The plugin was added. May be a coroutine function."""

    def teardown(self, nanny: Any) -> Any:
        """The nanny closes, or the plugin is removed. May be a coroutine function."""


class Environ(NannyPlugin):
    """Sets environment variables in all worker processes, which are restarted for it.

    >>> Environ({"OMP_NUM_THREADS": 2}).environ
    {'OMP_NUM_THREADS': '2'}
    """

    restart = True

    def __init__(self, environ: Mapping[str, Any] | None = None) -> None:
        self.environ = {str(name): str(value) for name, value in (environ or {}).items()}

    def setup(self, nanny: Any) -> None:
        """The nanny's ``env`` is what its next worker process gets."""
        nanny.env.update(self.environ)
