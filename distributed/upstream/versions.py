"""``distributed.versions``: what runs here, and where processes of a cluster disagree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from distributed.base.versions import (
    VersionMismatchWarning,
    differences,
    get_versions,
    mismatch_text,
    package_version,
)

__all__ = ["VersionMismatchWarning", "error_message", "get_package_info", "get_system_info", "get_versions"]


def get_system_info() -> dict[str, Any]:
    """The ``host`` part of :func:`get_versions`."""
    return get_versions()["host"]


def get_package_info(pkgs: Iterable[str]) -> dict[str, str | None]:
    """Versions of Python and these packages; None for one that is not installed."""
    return {"python": get_versions()["packages"]["python"]} | {name: package_version(name) for name in pkgs}


def error_message(
    scheduler: Mapping[str, Any], workers: Mapping[str, Mapping[str, Any]], source: Any, source_name: str = "Client"
) -> dict[str, str]:
    """``{"warning": text}`` of what disagrees among the versions of a source, the scheduler and workers."""
    views = {source_name: source or {}, "Scheduler": scheduler or {}, **dict(workers or {})}
    return {"warning": mismatch_text(differences(views))}
