"""The address of the status page, as the user's browser should call it."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from distributed.base import settings

__all__ = ["format_dashboard_link"]


def format_dashboard_link(scheduler_address: str, port: int, prefix: str = "") -> str:
    """Fill ``distributed.dashboard.link``: ``{scheme} {host} {port} {prefix}`` and every environment variable.

    A scheduler of this process or this machine (``inproc``, ``unix``) has its page on the loopback address.
    """
    template = str(settings.get("distributed.dashboard.link", "{scheme}://{host}:{port}/status"))
    parts = urlsplit(scheduler_address)
    host = "127.0.0.1" if parts.scheme in ("inproc", "unix", "") else (parts.hostname or "127.0.0.1")
    if ":" in host:
        host = f"[{host}]"
    if prefix and "{prefix}" not in template:
        template = template.replace("{port}/", "{port}/{prefix}/", 1)
    known = {**os.environ, "scheme": "http", "host": host, "port": port, "prefix": prefix.strip("/")}
    try:
        return template.format(**known)
    except (KeyError, IndexError, ValueError):
        return f"http://{host}:{port}/status"
