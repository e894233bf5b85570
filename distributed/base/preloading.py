"""Start-up code of the user: modules and files named by ``--preload``, the configuration or a constructor.

Each is imported before any connection is made. A function ``dask_setup(service)`` in it is called when the service
knows its address and before it lets anybody in or joins a scheduler, ``dask_teardown(service)`` as it stops; both may
be coroutine functions. ``dask_setup`` may be a click command (or a function that bears only ``@click.option``): its
options are parsed from the rest of the command line, which several such commands share.
"""

from __future__ import annotations

import errno
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

from distributed.base import settings

logger = logging.getLogger("distributed.preloading")

_DOWNLOAD_TIMEOUT_S = 30.0
_DOWNLOAD_BYTES = 16 << 20


class Preload:
    """One module or file of start-up code for one service.

    Parameters
    ----------
    service
        The Scheduler, Worker or Nanny that ``dask_setup`` and ``dask_teardown`` get.
    name
        An importable module name, the path of a Python file, a web address of one (with ``#sha256=...`` behind it,
        unless the setting ``distributed.auth.preload-from-web`` is true), or Python source (text with a newline or a
        blank).
    argv
        The command line's arguments for this code.

    Raises
    ------
    ImportError, FileNotFoundError, PermissionError
        Naming what could not be loaded, or may not be.
    """

    def __init__(self, service: Any, name: str, argv: Sequence[str] = ()) -> None:
        self.service = service
        self.name = name
        self.argv = list(argv)
        self.module = _loaded(name)
        self.command = as_click_command(getattr(self.module, "dask_setup", None))

    async def start(self) -> None:
        """Call ``dask_setup``. ``RuntimeError`` names this code and what it raised."""
        setup = getattr(self.module, "dask_setup", None)
        if setup is None:
            return
        logger.info("Run preload setup: %s", self.name)
        try:
            if self.command is None:
                await _awaited(setup(self.service))
                return
            context = self._parsed()
            with context:
                await _awaited(self.command.callback(self.service, **context.params))
        except Exception as e:
            raise RuntimeError(f"dask_setup of preload {_short(self.name)}: {_told(e)}") from e

    def unknown_arguments(self) -> list[str]:
        """What of ``argv`` the options of ``dask_setup`` do not take; all of it, when there are none."""
        return self.argv if self.command is None else list(self._parsed().args)

    def _parsed(self) -> Any:
        """A click context; what is not known here is for another command."""
        return self.command.make_context(
            "dask_setup", list(self.argv), allow_extra_args=True, ignore_unknown_options=True
        )

    async def teardown(self) -> None:
        """Call ``dask_teardown``."""
        function = getattr(self.module, "dask_teardown", None)
        if function is not None:
            logger.info("Run preload teardown: %s", self.name)
            await _awaited(function(self.service))


def make_preloads(
    service: Any, names: str | Sequence[str] | None, argv: Sequence[str] | Sequence[Sequence[str]] = ()
) -> list[Preload]:
    """Load all start-up code of a service; ``argv`` is one list for all, or one list for each.

    ``ValueError`` when the options of ``dask_setup`` are wrong, or no command among them knows one of the arguments.
    """
    if not names:
        return []
    if isinstance(names, str):
        names = [names]
    each: list[Any] = list(argv)
    if not each or isinstance(each[0], str):
        each = [each] * len(names)
    preloads = [Preload(service, name, arguments) for name, arguments in zip(names, each, strict=True)]
    _check_arguments(preloads)
    return preloads


def _check_arguments(preloads: Sequence[Preload]) -> None:
    with_options = [preload for preload in preloads if preload.command is not None]
    try:
        unknown = [preload.unknown_arguments() for preload in with_options]
    except Exception as e:
        raise ValueError(f"arguments of the preload: {_told(e)}") from e
    if unknown:
        lost = [word for word in unknown[0] if all(word in others for others in unknown)]
        if lost:
            names = ", ".join(_short(preload.name) for preload in with_options)
            raise ValueError(f"arguments that no preload takes: {' '.join(lost)} (options are those of {names})")


def _loaded(name: str) -> ModuleType:
    try:
        return load(name)
    except FileNotFoundError:
        raise
    except ImportError as e:
        raise ImportError(f"--preload {_short(name)} cannot be imported: {e}") from e


def _short(name: str) -> str:
    return name if len(name) < 100 and "\n" not in name else "<source>"


def _told(error: Exception) -> str:
    """In one line; click's errors name the option."""
    told = getattr(error, "format_message", None)
    return str(told() if told is not None else error) or type(error).__name__


def load(name: str) -> ModuleType:
    """The module of that name, file, address or source."""
    if is_webaddress(name):
        return _run_source(name, _checked_download(name))
    if name.endswith(".py"):
        return _load_file(Path(name).expanduser())
    if "\n" in name or " " in name:
        return _run_source("<preload>", name)
    return importlib.import_module(name)


def is_webaddress(s: str) -> bool:
    """Whether start-up code named so is downloaded."""
    return s.startswith(("http://", "https://"))


def _checked_download(name: str) -> str:
    """The code at a web address: what ``#sha256=`` behind it says, or whatever comes, if the settings allow that."""
    address, _, digest = name.partition("#sha256=")
    if not digest and not settings.get("distributed.auth.preload-from-web", False):
        raise PermissionError(
            errno.EPERM,
            f"{name} would run whatever is at that address now: say what you expect, as {address}#sha256=<64 "
            "hexadecimal digits>, or set distributed.auth.preload-from-web "
            "(DASK_DISTRIBUTED__AUTH__PRELOAD_FROM_WEB=True)",
        )
    content = _download(address)
    found = hashlib.sha256(content).hexdigest()
    if digest and found != digest.lower():
        raise PermissionError(
            errno.EPERM, f"what is at {address} has the SHA-256 {found}, not the one that was asked for"
        )
    return content.decode()


def _download(address: str) -> bytes:
    request = importlib.import_module("urllib.request")  # few need it
    with request.urlopen(address, timeout=_DOWNLOAD_TIMEOUT_S) as answer:
        content: bytes = answer.read(_DOWNLOAD_BYTES + 1)
    if len(content) > _DOWNLOAD_BYTES:
        raise PermissionError(errno.EFBIG, f"what is at {address} is over {_DOWNLOAD_BYTES} bytes long")
    return content


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


def as_click_command(setup: Callable[..., Any] | None) -> Any:
    """``setup`` as a click command, or None when it is a plain function."""
    if setup is None:
        return None
    import click

    if isinstance(setup, click.Command):
        return setup
    if getattr(setup, "__click_params__", None):
        return click.command()(setup)
    return None


async def _awaited(value: Any) -> None:
    if inspect.isawaitable(value):
        await value
