"""Questions about functions, modules and commands that other packages ask of ``distributed.utils``."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from distributed.worker import remote_calls


def iscoroutinefunction(f: Any) -> bool:
    """Whether calling ``f`` gives a coroutine."""
    return inspect.iscoroutinefunction(f)


def has_arg(func: Any, argname: str) -> bool:
    """Whether ``func`` names a parameter ``argname``; False for what shows no signature.

    >>> has_arg(lambda dask_worker: None, "dask_worker")
    True
    """
    return remote_calls.has_parameter(func, argname)


has_keyword = has_arg


def command_has_keyword(cmd: Any, k: str) -> bool:
    """Whether a command (a click command, a module with a ``main``, or the name of one) has the option ``--k``."""
    options = _options(cmd)
    return options is not None and k in options


def _options(cmd: Any) -> set[str] | None:
    """Names of the options of a command; None when it is none."""
    import click

    if isinstance(cmd, str):
        cmd = importlib.import_module(cmd)
    main = cmd if isinstance(cmd, click.Command) else getattr(cmd, "main", None)
    if main is None:
        return None
    return {str(p.name) for p in main.params if isinstance(p, click.Option)}


def cli_keywords(d: dict[str, Any], cls: Any = None, cmd: Any = None) -> list[str]:
    """Keyword arguments as command-line options; ``cls`` and ``cmd`` tell which are known.

    Raises ``ValueError`` that names a keyword neither of them knows.

    >>> cli_keywords({"memory_limit": "1GB"})
    ['--memory-limit', '1GB']
    """
    known = None if cmd is None else _options(cmd)
    if cls is not None:
        accepted = {n for c in cls.__mro__ for n in inspect.signature(c.__init__).parameters} | (known or set())
        for name in d:
            if name not in accepted:
                raise ValueError(f"{cls.__name__} does not take the keyword {name!r}")
    options: list[str] = []
    for name, value in d.items():
        flag = "--" + name.replace("_", "-")
        if known is not None and name not in known:
            raise ValueError(f"the command has no option {flag}")
        options += [flag, str(value)]
    return options


def import_term(name: str) -> Any:
    """The object of a dotted name.

    >>> import_term("math.sin")
    <built-in function sin>
    """
    module_name, dot, attribute = name.rpartition(".")
    if not dot:
        return importlib.import_module(name)
    return getattr(importlib.import_module(module_name), attribute)


def import_file(path: str) -> list[ModuleType]:
    """Import a ``.py`` file or the modules of an archive (zip, egg, whl, pyz), and return them.

    Raises ``FileNotFoundError`` when there is none.
    """
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"there is no file {path!r} to import")
    remote_calls.make_importable(file)
    return [importlib.import_module(name) for name in remote_calls.import_file(file)]


def parse_ports(port: int | str | None) -> list[int] | list[None]:
    """Ports of an option: None, one, ``"8000"``, or a range ``"8000:8003"`` (both ends included)."""
    if port is None:
        return [None]
    if isinstance(port, int):
        return [port]
    if not isinstance(port, str):
        raise TypeError(f"a port is an int or text, not {port!r}")
    first, colon, last = port.partition(":")
    if not colon:
        return [int(first)]
    low, high = int(first), int(last)
    if low >= high:
        raise ValueError(f"the port range {port!r} ends before it begins: it must be first:last")
    return list(range(low, high + 1))


def dumps_function(func: Any) -> bytes:
    """A function as bytes, which ``pickle.loads`` opens."""
    return bytes(cloudpickle.dumps(func, protocol=5))
