"""Configuration: ``dask.config`` under the names that users know, with the defaults of ``distributed.yaml``.

dask is loaded when a setting is first asked for, and our defaults are registered then; ``register()`` may be called
earlier. Values set by users (files, environment, ``dask.config.set``) always win over the defaults. A process that was
given the settings of another one (:func:`adopt`) answers from those until somebody loads dask. Shell: never asked by
state machines.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from distributed.base.formatting import parse_bytes, parse_timedelta

__all__ = [
    "get",
    "get_bytes",
    "get_seconds",
    "parse_bytes",
    "parse_timedelta",
    "register",
    "register_when_dask_loads",
    "snapshot",
]

_DEFAULTS_FILE = Path(__file__).parent.parent / "distributed.yaml"
_NO_DEFAULT: Any = object()
_lock = threading.RLock()
_dask_config: Any = None
_adopted: Mapping[str, Any] | None = None
_defaults: dict[str, Any] | None = None


def load_defaults() -> dict[str, Any]:
    """The content of ``distributed.yaml``; read once."""
    global _defaults
    if _defaults is None:
        yaml = importlib.import_module("yaml")
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        with _DEFAULTS_FILE.open(encoding="utf-8") as file:
            _defaults = yaml.load(file, Loader=loader)
    return _defaults


def is_loaded() -> bool:
    """Whether dask's configuration is there, so that asking for a setting costs nothing."""
    return _dask_config is not None


def register() -> Any:
    """Load ``dask.config``, give it our defaults and what was adopted, and return it; later calls return it at once."""
    if _dask_config is None:
        with _lock:
            if _dask_config is None:
                module = importlib.import_module("dask.config")
                if _dask_config is None:  # else done while it was loaded
                    _join(module)
    return _dask_config


def _join(module: Any) -> None:
    """Give dask's configuration our defaults and what was adopted, and loggers what it asks for."""
    global _dask_config
    module.update_defaults(load_defaults())
    if _adopted is None:
        _set_up_loggers(module.config)
    else:
        module.update(module.config, _adopted, priority="new")
    _dask_config = module


def _set_up_loggers(config: Mapping[str, Any]) -> None:
    from distributed.base.log_setup import initialize_logging  # needs logging, which `import distributed` does without

    initialize_logging(config)


def get(name: str, default: Any = _NO_DEFAULT) -> Any:
    """The setting ``name``; a name without a dot-separated root of its own is looked up as it is.

    Parameters
    ----------
    name
        E.g. ``"distributed.scheduler.worker-saturation"``.
    default
        What an unknown name gives. Without it an unknown name raises ``KeyError``.
    """
    if _dask_config is None and _adopted is not None:
        value = _look_up(_adopted, name)
        if value is _NO_DEFAULT:
            value = default
        if value is _NO_DEFAULT:
            raise KeyError(name)
        return value
    module = _dask_config or register()
    if default is _NO_DEFAULT:
        return module.get(name)
    return module.get(name, default)


def _look_up(tree: Any, name: str) -> Any:
    """What ``tree`` holds under the dotted ``name``, where a hyphen and an underscore mean the same."""
    for part in name.split("."):
        if not isinstance(tree, Mapping):
            return _NO_DEFAULT
        spellings = (part, part.replace("_", "-"), part.replace("-", "_"))
        found = next((spelling for spelling in spellings if spelling in tree), None)
        if found is None:
            return _NO_DEFAULT
        tree = tree[found]
    return tree


def get_seconds(name: str, default: Any = _NO_DEFAULT) -> Any:
    """The setting ``name`` as seconds; None stays None."""
    value = get(name, default)
    try:
        return parse_timedelta(value)
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"the setting {name} must be a time such as '5s', not {value!r}") from None


def get_bytes(name: str, default: Any = _NO_DEFAULT) -> Any:
    """The setting ``name`` as bytes; None and False stay as they are."""
    value = get(name, default)
    try:
        return value if value is None or value is False else parse_bytes(value)
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"the setting {name} must be a size such as '5 MiB', not {value!r}") from None


def snapshot() -> dict[str, Any]:
    """All settings of now, for a process that shall have the same; give it to :func:`adopt` there."""
    module = register()
    content: dict[str, Any] = module.config
    return content


def adopt(settings: Mapping[str, Any]) -> None:
    """Let ``settings`` (of :func:`snapshot`, in another process) win over this process's own files and defaults.

    dask, which costs more than all of a worker's other modules together, is not loaded for it, unless this process has
    settings of its own in ``DASK_...`` variables, which dask reads.
    """
    global _adopted
    _adopted = settings
    _set_up_loggers(settings)
    if _dask_config is not None:
        _dask_config.update(_dask_config.config, settings, priority="new")
    elif "dask.config" in sys.modules or any(name.startswith("DASK_") for name in os.environ):
        register()


class _AfterDaskConfig:
    """Runs :func:`register` right after somebody else has loaded ``dask.config``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "dask.config":
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            _join(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def register_when_dask_loads() -> None:
    """Register now if dask is loaded already, else at the moment when somebody loads it. Costs nothing until then."""
    if "dask.config" in sys.modules:
        register()
    elif not any(isinstance(finder, _AfterDaskConfig) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterDaskConfig())


def __getattr__(name: str) -> Any:
    if name == "config":
        return register().config
    if name == "defaults":
        return load_defaults()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
