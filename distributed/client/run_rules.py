"""``timeout=``, ``isolated=`` and ``max_restarts=`` of ``submit`` and ``map``, and as annotations; checked here. Pure.

These are the engine's own. A function that itself takes a keyword of such a name gets it, as programs that were written
for dask.distributed expect: for that function, say ``with dask.annotate(timeout=...)``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from distributed.base.formatting import parse_timedelta
from distributed.client.retry import Retry
from distributed.messages.rules import RunRules

OWN = frozenset({"timeout", "isolated", "max_restarts"})


def take_own(func: Callable[..., Any], kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """``(for the engine, for the function)``."""
    taken = _taken_by(func)
    own = {name: value for name, value in kwargs.items() if name in OWN and name not in taken}
    return own, {name: value for name, value in kwargs.items() if name not in own}


def _taken_by(func: Callable[..., Any]) -> frozenset[str]:
    try:
        parameters = inspect.signature(func).parameters
    except (TypeError, ValueError):
        return frozenset()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return OWN
    return OWN & parameters.keys()


def make_rules(timeout: Any, isolated: Any, retries: Any) -> RunRules | None:
    """What a worker has to know; None for what is usual."""
    if isolated not in (None, True, False):
        raise TypeError(f"isolated= takes True or False, not {isolated!r}")
    limit_s = None if timeout is None else _limit(timeout)
    on = retries.on if type(retries) is Retry else ()
    if limit_s is None and not isolated and not on:
        return None
    return RunRules(limit_s, bool(isolated), on)


def _limit(timeout: Any) -> float:
    seconds: Any = None
    if not isinstance(timeout, bool):
        try:
            seconds = parse_timedelta(timeout)
        except (TypeError, ValueError, KeyError):
            pass
    if seconds is None:
        raise TypeError(f"timeout= must be a number of seconds, or a time such as '5 minutes', not {timeout!r}")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"timeout= must be more than 0 seconds and finite, got {timeout!r}")
    return float(seconds)


def make_max_restarts(max_restarts: Any, actor: bool) -> int:
    """How often an actor is made anew."""
    if max_restarts is None:
        return 0
    if isinstance(max_restarts, bool) or not isinstance(max_restarts, int):
        raise TypeError(f"max_restarts= must be a whole number, not {max_restarts!r}")
    if max_restarts < 0:
        raise ValueError(f"max_restarts= must not be negative, got {max_restarts}")
    if max_restarts and not actor:
        raise ValueError("max_restarts= has a meaning only together with actor=True")
    return max_restarts
