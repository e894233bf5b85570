"""Log levels and handlers as the configuration asks: the sections ``distributed.logging`` and ``logging``. Shell.

A program that shows its log unless told otherwise calls :func:`show`; the configuration wins over it, whichever comes
first. Three forms: ``{logger: level}``; a dict with a ``version``, for ``logging.config.dictConfig``; or the key
``logging-file-config`` with the path of a file for ``logging.config.fileConfig``. Without any, nothing is changed.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"


def initialize_logging(config: Mapping[str, Any]) -> None:
    """Set up loggers by the sections of ``config`` (of ``dask.config.config``).

    Raises ``ValueError`` that names the section and what is wrong with it.
    """
    own = config.get("distributed") or {}
    section = own.get("logging") or config.get("logging")
    path = own.get("logging-file-config") or config.get("logging-file-config")
    if path and section:
        raise ValueError("the configuration has both 'logging' and 'logging-file-config': keep one of them")
    if path:
        _take_over()
        _module().fileConfig(path, disable_existing_loggers=False)
    if not section:
        return
    if not isinstance(section, Mapping):
        raise ValueError(f"the section 'logging' must map loggers to levels, not be {section!r}")
    if "version" in section or "distributed" in section:
        _take_over()
    if "version" in section:
        _module().dictConfig(dict(section))
    else:
        _set_levels(section, str((own.get("admin") or {}).get("log-format") or _FORMAT))


def show() -> None:
    """Lines of the engine from INFO on go to stderr, with time and place, unless the configuration says otherwise."""
    logger = logging.getLogger("distributed")
    if _configured:
        return
    if logger.level == logging.NOTSET or logger.level > logging.INFO:
        logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _ShownHandler) for handler in logger.handlers):
        for handler in [h for h in logger.handlers if type(h) is logging.StreamHandler]:
            logger.removeHandler(handler)
        handler = _ShownHandler()
        handler.setFormatter(logging.Formatter(_FORMAT))
        logger.addHandler(handler)
        logger.propagate = False


_configured = False


def _take_over() -> None:
    """The configuration speaks of the engine's logger: what :func:`show` has done is undone."""
    global _configured
    _configured = True
    logger = logging.getLogger("distributed")
    for handler in [h for h in logger.handlers if isinstance(h, _ShownHandler)]:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


def _module() -> Any:
    import logging.config

    return logging.config


def _set_levels(levels: Mapping[str, Any], text_format: str) -> None:
    """One handler to stderr for each logger named; it no longer passes its lines up."""
    for name, level in levels.items():
        number = logging.getLevelName(level.upper()) if isinstance(level, str) else level
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError(f"the section 'logging' gives {name!r} the level {level!r}, which is none")
        logger = logging.getLogger(name)
        logger.setLevel(number)
        for handler in [h for h in logger.handlers if isinstance(h, _ConfiguredHandler)]:
            logger.removeHandler(handler)
        handler = _ConfiguredHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(text_format if "%(" in text_format else _FORMAT))
        logger.addHandler(handler)
        logger.propagate = False


class _ConfiguredHandler(logging.StreamHandler[Any]):
    """Made from the configuration."""


class _ShownHandler(logging.StreamHandler[Any]):
    """Of :func:`show`."""
