"""Packages whose names are loaded when first used (PEP 562), so that importing a room costs only what is used of it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(module: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package.

    Parameters
    ----------
    module
        The package's ``__name__``.
    homes
        Name -> the module that defines it, or ``module:name`` where it is called otherwise there. A name that was
        loaded stays in the package.
    """

    def get(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, other_name = home.partition(":")
        value = getattr(importlib.import_module(place), other_name or name)
        setattr(sys.modules[module], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[module]), *homes})

    return get, names
