"""``distributed.compatibility``: what platform this is."""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

PYPY = platform.python_implementation() == "PyPy"
LINUX = sys.platform == "linux"
MACOS = sys.platform == "darwin"
WINDOWS = sys.platform.startswith("win")


def asyncio_run(
    main: Coroutine[Any, Any, T], *, loop_factory: Callable[[], Any] | None = None, debug: bool = False
) -> T:
    """``asyncio.run`` with a choice of event loop."""
    with asyncio.Runner(loop_factory=loop_factory, debug=debug) as runner:
        return runner.run(main)
