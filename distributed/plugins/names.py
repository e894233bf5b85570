"""What a plugin is called. Pure."""

from __future__ import annotations

import uuid
from typing import Any


def plugin_name(plugin: Any, name: str | None = None) -> str:
    """``name`` if given, else the plugin's own ``name``, else its class name with a random ending.

    >>> class Mine:
    ...     name = "mine"
    >>> plugin_name(Mine()), plugin_name(Mine(), "other")
    ('mine', 'other')
    """
    if name:
        return name
    own = getattr(plugin, "name", None)
    if own:
        return str(own)
    return f"{type(plugin).__name__}-{uuid.uuid4()}"
