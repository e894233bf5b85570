"""Start-up code of the user: modules and files named by ``--preload``, the configuration or a constructor.

Each is imported before any connection is made. A function ``dask_setup(service)`` in it is called before the service
starts, ``dask_teardown(service)`` as it stops; both may be coroutine functions. ``dask_setup`` may be a click command
(or a function that bears only ``@click.option``): its options are parsed from the rest of the command line.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

logger = logging.getLogger("distributed.preloading")

_DOWNLOAD_TIMEOUT_S = 30.0


class Preload:
    """One module or file of start-up code for one service.

    Parameters
    ----------
    service
        The Scheduler, Worker or Nanny that ``dask_setup`` and ``dask_teardown`` get.
    name
        An importable module name, the path of a Python file, a web address of one, or Python source (text with a
        newline or a blank).
    argv
        The command line's arguments for this code.

    Raises
    ------
    ImportError, FileNotFoundError
        Naming what could not be loaded.
    """

    def __init__(self, service: Any, name: str, argv: Sequence[str] = ()) -> None:
        self.service = service
        self.name = name
        self.argv = list(argv)
        self.module = load(name)

    async def start(self) -> None:
        """Call ``dask_setup``."""
        setup = getattr(self.module, "dask_setup", None)
        if setup is None:
            return
        logger.info("Run preload setup: %s", self.name)
        command = as_click_command(setup)
        if command is None:
            await _awaited(setup(self.service))
            return
        context = command.make_context("dask_setup", list(self.argv), allow_extra_args=False)
        with context:
            await _awaited(command.callback(self.service, **context.params))

    async def teardown(self) -> None:
        """Call ``dask_teardown``."""
        function = getattr(self.module, "dask_teardown", None)
        if function is not None:
            logger.info("Run preload teardown: %s", self.name)
            await _awaited(function(self.service))


def make_preloads(
    service: Any, names: str | Sequence[str] | None, argv: Sequence[str] | Sequence[Sequence[str]] = ()
) -> list[Preload]:
    """Load all start-up code of a service; ``argv`` is one list for all, or one list for each."""
    if not names:
        return []
    if isinstance(names, str):
        names = [names]
    each: list[Any] = list(argv)
    if not each or isinstance(each[0], str):
        each = [each] * len(names)
    return [Preload(service, name, arguments) for name, arguments in zip(names, each, strict=True)]


def load(name: str) -> ModuleType:
    """The module of that name, file, address or source."""
    if is_webaddress(name):
        return _run_source(name, _download(name))
    if name.endswith(".py"):
        return _load_file(Path(name).expanduser())
    if "\n" in name or " " in name:
        return _run_source("<preload>", name)
    return importlib.import_module(name)


def is_webaddress(s: str) -> bool:
    """Whether start-up code named so is downloaded."""
    return s.startswith(("http://", "https://"))


def _download(address: str) -> str:
    request = importlib.import_module("urllib.request")  # few need it
    with request.urlopen(address, timeout=_DOWNLOAD_TIMEOUT_S) as answer:
        content: bytes = answer.read()
    return content.decode()


def _run_source(place: str, source: str) -> ModuleType:
    module = ModuleType(f"preload_{hashlib.sha1(source.encode()).hexdigest()[:10]}")
    exec(compile(source, place, "exec"), module.__dict__)
    return module


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"--preload: there is no file {str(path)!r}")
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"--preload: {str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def as_click_command(setup: Callable[..., Any]) -> Any:
    """``setup`` as a click command, or None when it is a plain function."""
    import click

    if isinstance(setup, click.Command):
        return setup
    if getattr(setup, "__click_params__", None):
        return click.command()(setup)
    return None


async def _awaited(value: Any) -> None:
    if inspect.isawaitable(value):
        await value
