"""The environment of a worker process: variables, and the path on which it finds this package. Shell: reads
``os.environ``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distributed.base import settings
from distributed.comm.secrets import SECRET_VARIABLES

_HOME = str(Path(__file__).resolve().parent.parent.parent)


_SECTIONS = ("pre-spawn-environ", "environ")


def worker_variables(env: Mapping[str, Any] | None) -> dict[str, str]:
    """Variables of the user (``Nanny(env=)``), over those of this process, over the configured ones.

    ``distributed.nanny.pre-spawn-environ`` and ``distributed.nanny.environ`` are defaults: what this process's own
    environment says wins over them. The cluster's secret is not handed on: tasks could read it.
    """
    return _merged([settings.get(f"distributed.nanny.{section}", None) for section in _SECTIONS], env)


def expected_variables() -> dict[str, str]:
    """With which variables a worker process will probably start: known without loading dask, when that is not done."""
    if settings.is_loaded():
        return spawn_variables(worker_variables(None))
    own = settings.load_defaults()["distributed"]["nanny"]
    return spawn_variables(_merged([own.get(section) for section in _SECTIONS], None))


def _merged(configured: Sequence[Mapping[str, Any] | None], env: Mapping[str, Any] | None) -> dict[str, str]:
    result: dict[str, str] = {}
    for section in configured:
        result.update({name: str(value) for name, value in (section or {}).items() if value is not None})
    result.update(os.environ)
    for name, value in (env or {}).items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = str(value)
    for name in SECRET_VARIABLES:
        result.pop(name, None)
    return result


def worker_settings(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """This process's settings and those given over them, for the worker; without the cluster's secret, which reaches
    it by itself."""
    chosen = {**settings.snapshot(), **(given or {})}
    own = chosen.get("distributed")
    if isinstance(own, Mapping) and isinstance(own.get("auth"), Mapping):
        chosen["distributed"] = {**own, "auth": {**own["auth"], "token": None, "token-file": None}}
    for section in (chosen, chosen.get("distributed")):
        if isinstance(section, dict):
            for name in ("auth-token", "auth_token", "auth-token-file", "auth_token_file"):
                section.pop(name, None)
    return chosen


def spawn_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """``variables`` with which ``python -m distributed...`` finds this very package, wherever it was loaded from."""
    path = variables.get("PYTHONPATH")
    return {**variables, "PYTHONPATH": _HOME if not path else f"{_HOME}{os.pathsep}{path}"}


def module_path() -> list[str]:
    """This process's ``sys.path``, for the worker's."""
    return [os.getcwd() if entry == "" else entry for entry in sys.path]
