"""``distributed.versions``: what runs here."""

from distributed.base.versions import get_versions

__all__ = ["get_versions"]
