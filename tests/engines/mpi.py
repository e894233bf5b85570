"""``mpirun`` with an MPI library and mpi4py, as the wheels ``mpich`` and ``mpi4py`` bring them, or as installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest


def mpirun(n: int, *command: str) -> list[str]:
    """The command that runs ``command`` in ``n`` processes, over loopback; skips where that cannot be."""
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("needs the package mpi4py (pip install mpi4py mpich)")
    beside = os.path.dirname(sys.executable)
    program = shutil.which("mpirun", path=f"{beside}:{os.environ.get('PATH', '')}")
    if program is None:
        pytest.skip("needs mpirun (pip install mpich)")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20).stdout
    options = ["-iface", "lo"]
    if "Open MPI" in version or "OpenRTE" in version:
        options = ["--allow-run-as-root", "--oversubscribe", "--mca", "btl_tcp_if_include", "lo"]
    return [program, *options, "-n", str(n), *command]
