"""What runs here: versions of Python, of this package and of those that must agree across a cluster."""

from __future__ import annotations

import functools
import os
import platform
import struct
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from distributed.base.lazy import lazy_module

if TYPE_CHECKING:
    from importlib import metadata
else:
    metadata = lazy_module("importlib.metadata")

REQUIRED = ("dask", "distributed", "msgspec", "cloudpickle", "tornado")
OPTIONAL = ("numpy", "pandas", "lz4", "pyarrow")


class VersionMismatchWarning(Warning):
    """Packages that must agree across a cluster do not."""


def package_version(name: str) -> str | None:
    """The installed version of a distribution, read without importing it; None when it is not there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def get_versions(packages: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """``{"host": {...}, "packages": {name: version or None}}`` of this process; ``packages`` names more of them."""
    uname = platform.uname()
    host = {
        "python": platform.python_version(),
        "python-bits": struct.calcsize("P") * 8,
        "OS": uname.system,
        "OS-release": uname.release,
        "machine": uname.machine,
        "processor": uname.processor,
        "byteorder": sys.byteorder,
        "LC_ALL": os.environ.get("LC_ALL", "None"),
        "LANG": os.environ.get("LANG", "None"),
    }
    names = [*REQUIRED, *OPTIONAL, *(packages or ())]
    return {"host": host, "packages": {"python": host["python"]} | {n: package_version(n) for n in names}}


@functools.cache
def own_versions() -> dict[str, dict[str, Any]]:
    """``get_versions()`` of this process, looked up once (reading the metadata of packages takes milliseconds)."""
    return get_versions()


def differences(views: Mapping[str, Mapping[str, Any]], packages: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """Where views of several processes disagree.

    Parameters
    ----------
    views
        ``{who: get_versions()}``.

    Returns
    -------
    ``{package: {who: version}}`` for each package that must agree and does not.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in ("python", *REQUIRED, *packages):
        seen = {who: (view.get("packages") or {}).get(name) for who, view in views.items() if view}
        if len(set(seen.values())) > 1:
            found[name] = seen
    return found


def mismatch_text(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The disagreements as a table in text, empty when there is none."""
    if not found:
        return ""
    rows = [
        f"  {name}: " + ", ".join(f"{who} {v or 'MISSING'}" for who, v in seen.items()) for name, seen in found.items()
    ]
    return "Mismatched versions found\n" + "\n".join(rows)
