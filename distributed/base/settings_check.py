"""Whether the settings of a user make sense: each that differs from its default is held against ``distributed-schema``.

Called when a server or client is made. A configuration without changes costs one walk over the defaults; the schema is
read only when something differs. Shell: reads the configuration.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distributed.base import settings
from distributed.base.formatting import parse_bytes, parse_timedelta

_SCHEMA_FILE = Path(__file__).parent.parent / "distributed-schema.yaml"
_OPEN = ("nanny.environ", "nanny.pre-spawn-environ", "worker.resources")
"""Sections whose members users choose."""


@functools.cache
def schema() -> dict[str, dict[str, str]]:
    """``{setting: {"type", "does"[, "unused"]}}``, without the leading ``distributed.``."""
    yaml = importlib.import_module("yaml")
    content: dict[str, dict[str, str]] = yaml.load(
        _SCHEMA_FILE.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )
    return content


def leaves(section: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """``(dotted name, value)`` of every setting of a section."""
    for name, value in section.items():
        path = f"{above}.{name}" if above else name
        if isinstance(value, Mapping) and path not in _OPEN:
            yield from leaves(value, path)
        else:
            yield path, value


def check() -> None:
    """Raise ``ValueError`` that names the first setting which is not what it must be, and its value."""
    for name, default in leaves(settings.load_defaults()["distributed"]):
        value = settings.get(f"distributed.{name}", default)
        if value is not default and value != default:
            check_one(name, value)


def check_one(name: str, value: Any) -> None:
    """As :func:`check`, for one setting (without the leading ``distributed.``)."""
    kind = schema()[name]["type"]
    if value is None and kind.endswith("?"):
        return
    kind, _, choices = kind.rstrip("?").partition(":")
    expected, fits = _KINDS[kind]
    if choices:
        allowed = choices.split(",")
        expected = f"one of {choices.replace(',', ', ')}"
        named = "none" if value in (None, False) else "auto" if value is True else value
        good = named in allowed
    else:
        try:
            good = fits(value)
        except (ValueError, TypeError, KeyError):
            good = False
    if not good:
        raise ValueError(f"the setting distributed.{name} must be {expected}, not {value!r}")


def _is_time(value: Any) -> bool:
    return not isinstance(value, bool) and parse_timedelta(value) is not None


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and float(value) == float(value)


def _is_int(value: Any) -> bool:
    return not isinstance(value, bool) and int(value) == float(value)


def _is_fraction(value: Any) -> bool:
    """A share of memory, or False for "never"; from 1 on it may be a number of bytes."""
    return value is False or value is None or (_is_number(value) and float(value) >= 0)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "bytes": ("a number of bytes, or text such as '5 MiB'", lambda value: value is False or parse_bytes(value) >= 0),
    "choice": ("", lambda value: True),
    "count": ("a whole number from 0 on", lambda value: _is_int(value) and int(value) >= 0),
    "dict": ("a mapping", lambda value: isinstance(value, Mapping)),
    "fraction": ("a share of memory from 0 to 1, or false", _is_fraction),
    "int": ("a whole number", _is_int),
    "list": ("a list, or one name", lambda value: isinstance(value, (list, tuple, str)) or value is None),
    "number": ("a number", _is_number),
    "text": ("text", lambda value: isinstance(value, str)),
    "time": ("a time such as '5s', or a number of seconds", _is_time),
}
