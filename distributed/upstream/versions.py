"""``distributed.versions``: what runs here."""

from distributed.base.versions import VersionMismatchWarning, get_versions

__all__ = ["VersionMismatchWarning", "get_versions"]
