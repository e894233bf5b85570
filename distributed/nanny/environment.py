"""The environment of a worker process: variables, and the path on which it finds this package. Shell: reads
``os.environ``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed.base import settings
from distributed.comm.secrets import ENV_TOKEN

_HOME = str(Path(__file__).resolve().parent.parent.parent)


def worker_variables(env: Mapping[str, Any] | None) -> dict[str, str]:
    """Variables of the user (``Nanny(env=)``), over those of this process, over the configured ones.

    ``distributed.nanny.pre-spawn-environ`` and ``distributed.nanny.environ`` are defaults: what this process's own
    environment says wins over them. The cluster's secret is not handed on: tasks could read it.
    """
    result: dict[str, str] = {}
    for setting in ("distributed.nanny.pre-spawn-environ", "distributed.nanny.environ"):
        configured: Mapping[str, Any] = settings.get(setting, None) or {}
        result.update({name: str(value) for name, value in configured.items() if value is not None})
    result.update(os.environ)
    for name, value in (env or {}).items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = str(value)
    result.pop(ENV_TOKEN, None)
    return result


def spawn_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """``variables`` with which ``python -m distributed...`` finds this very package, wherever it was loaded from."""
    path = variables.get("PYTHONPATH")
    return {**variables, "PYTHONPATH": _HOME if not path else f"{_HOME}{os.pathsep}{path}"}


def module_path() -> list[str]:
    """This process's ``sys.path``, for the worker's."""
    return [os.getcwd() if entry == "" else entry for entry in sys.path]
