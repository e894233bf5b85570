"""What is loaded by an import, and what is not: every module costs each program and each worker process its time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from distributed.base.lazy import lazy_module


def loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter has after ``code``."""
    program = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import distributed",
        "from distributed import Client, LocalCluster, as_completed, wait",
        "import distributed.nanny.worker_process; from distributed import Worker",
    ],
)
def test_no_import_loads_what_is_heavy(code: str) -> None:
    heavy = {"dask", "numpy", "pandas", "tornado", "psutil", "yaml", "click", "uvloop", "importlib.metadata", "difflib"}
    assert not heavy & loaded(code)


def test_cluster_and_client_load_neither_scheduler_nor_worker_nor_nanny() -> None:
    modules = loaded("from distributed import Client, LocalCluster")
    assert not {"distributed.scheduler.server", "distributed.worker.server", "distributed.nanny.server"} & modules


def test_lazy_module() -> None:
    lazy = lazy_module("colorsys")
    assert "loaded when it is used" in repr(lazy)
    assert lazy.rgb_to_hsv(0, 0, 0) == (0, 0, 0)
    with pytest.raises(AttributeError):
        lazy.nothing
    with pytest.raises(ModuleNotFoundError):
        lazy_module("no_such_module_at_all").x
