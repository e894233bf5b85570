"""What is loaded when first used: names of packages (PEP 562), and modules of other people that cost milliseconds. So
importing a room costs only what is used of it. And what is there already, without loading it."""

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


class _LazyModule:
    """Stands for a module until an attribute of it is asked for."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), attribute)
        self.__dict__[attribute] = value
        return value

    def __repr__(self) -> str:
        return f"<module {self.__name__!r}, loaded when it is used>"


def lazy_module(name: str) -> Any:
    """What ``import name as ...`` gives, but loaded when it is first used. For modules of others, never for our own.

    Examples
    --------
    >>> fractions = lazy_module("fractions")
    >>> fractions.Fraction(2, 4)
    Fraction(1, 2)
    """
    return _LazyModule(name)


def loaded(module: str, name: str) -> Any:
    """What a module calls ``name``; None where it is not loaded, or not so far: another thread may be loading it."""
    return getattr(sys.modules.get(module), name, None)
