"""The address of the status page, as the user's browser should call it, and with what signs that browser in."""

from __future__ import annotations

import contextlib
import os
from typing import Any
from urllib.parse import urlsplit

from distributed.base import settings
from distributed.comm import secrets, web_access
from distributed.comm.keys import Secret

__all__ = ["dashboard_link_of", "format_dashboard_link", "known_secret"]


def dashboard_link_of(identity: dict[str, Any], address: str, secret: Secret | None, prefix: str = "") -> str:
    """A link to the pages of the scheduler with this identity, good for signing a browser in; empty when it has none.

    Without a secret the link is plain: whoever follows it is told how to sign in.
    """
    port = (identity.get("services") or {}).get("dashboard")
    if port is None:
        return ""
    scheme = identity.get("dashboard_scheme", "http")
    link = format_dashboard_link(address, port, prefix or identity.get("dashboard_prefix", ""), scheme)
    if secret is None or secret.is_open:
        return link
    return web_access.sign(link, secret, str(identity.get("id", "")))


def known_secret(address: str, secret_id: bytes = b"") -> Secret | None:
    """The secret of the cluster at ``address`` as this process knows it; ``secret_id``: that of a connection to it."""
    with contextlib.suppress(OSError):
        found = secrets.lookup_by_id(secret_id, address) if secret_id else None
        return found or secrets.lookup_certain(address)
    return None


def format_dashboard_link(scheduler_address: str, port: int, prefix: str = "", scheme: str = "http") -> str:
    """Fill ``distributed.dashboard.link``: ``{scheme} {host} {port} {prefix}`` and every environment variable.

    A scheduler of this process or this machine (``inproc``, ``unix``) has its page on the loopback address.
    """
    template = str(settings.get("distributed.dashboard.link", "{scheme}://{host}:{port}/status"))
    parts = urlsplit(scheduler_address)
    host = "127.0.0.1" if parts.scheme in ("inproc", "unix", "") else (parts.hostname or "127.0.0.1")
    if ":" in host:
        host = f"[{host}]"
    prefix = prefix.strip("/")
    if prefix and "{prefix}" not in template:
        template = template.replace("{port}/", "{port}/{prefix}/", 1)
    known = {**os.environ, "scheme": scheme, "host": host, "port": port, "prefix": prefix}
    try:
        return template.format(**known)
    except (KeyError, IndexError, ValueError):
        return f"{scheme}://{host}:{port}/status"
