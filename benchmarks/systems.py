"""What is measured, and where it runs: each system in a virtual environment of its own, all installed alike.

This tree is installed too, anew for each run: so it has its bytecode compiled and nothing but its own dependencies
around it, as the peers have. An environment is made when it is first asked for, in ``.bench-venv/``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
VENVS = ROOT / ".bench-venv"
INCUMBENT = "2026.8.0"
OURS, THEIRS = "this", "incumbent"
# Pools by the packages that they need.
POOLS = {
    "multiprocessing.Pool": (),
    "ProcessPoolExecutor": (),
    "loky": ("loky",),
    "Parsl": ("parsl",),
    "Ray": ("ray",),
}
# What the workloads use beside the system under test.
LIBRARIES = ("numpy", "pandas", "pyarrow")
# What is built from this tree when it is installed.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "distributed")
# Ours alone: the incumbent would need half an hour, or the figure is held against an absolute bound.
OURS_ONLY = ("million", "graph_path")


@dataclass(frozen=True)
class System:
    """Something to measure: which interpreter runs the scripts, and which of them."""

    name: str
    python: str
    scripts: tuple[str, ...]


def environment(name: str, packages: tuple[str, ...]) -> str:
    """The interpreter of a virtual environment with ``packages``, made when it is not there or has others."""
    folder = VENVS / name
    python = folder / "bin" / "python"
    made = folder / "made"
    wanted = " ".join([package for package in packages if os.sep not in package])  # but for the copy of this tree
    if not made.exists() or made.read_text() != wanted:
        say(f"making the environment of {name}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        if packages:
            pip(str(python), *packages)
        made.write_text(wanted)
    return str(python)


def pip(python: str, *arguments: str) -> None:
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments], check=True)


def this_tree() -> str:
    """The interpreter of an environment in which this tree, as it is now, is installed beside its dependencies."""
    python = VENVS / OURS / "bin" / "python"
    with tempfile.TemporaryDirectory() as folder:
        for name in SOURCES:  # a copy: building leaves traces where it builds
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, Path(folder) / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder)
        environment(OURS, (folder, f"dask=={INCUMBENT}", *LIBRARIES, "setuptools>=77"))
        pip(str(python), "--no-deps", "--no-build-isolation", "--force-reinstall", folder)
    return str(python)


def systems(groups: tuple[str, ...], with_peers: bool) -> list[System]:
    """All that is to be measured; a peer that cannot be installed is left out, and said so."""
    found = [System(OURS, this_tree(), groups)]
    if not with_peers:
        return found
    wanted = {THEIRS: (f"distributed=={INCUMBENT}", f"dask=={INCUMBENT}", *LIBRARIES)}
    if "throughput" in groups:
        wanted |= POOLS
    for name, packages in wanted.items():
        scripts = tuple([g for g in groups if g not in OURS_ONLY]) if name == THEIRS else (f"pools {name}",)
        try:
            found.append(System(name, environment(name, packages), scripts))
        except (subprocess.CalledProcessError, OSError) as error:
            say(f"{name} is left out, it cannot be installed: {error}")
    return found


def say(text: str) -> None:
    """Tell how it goes; the figures alone go to standard output."""
    print(text, file=sys.stderr, flush=True)
