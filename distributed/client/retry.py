"""When a task that has raised runs again: what ``retries=`` takes beside a number. Pure."""

from __future__ import annotations

from typing import Any

from distributed.base.errors import error_names
from distributed.base.formatting import parse_timedelta
from distributed.messages.rules import Backoff


class Retry(int):
    """A rule for ``retries=``, in calls and in ``dask.annotate``. It is the number ``max`` and more.

    Parameters
    ----------
    max : int
        So often at most the task runs again when it raises.
    backoff : float or str
        Seconds, or ``"500ms"``, between a failure and the next run; twice that after the next failure, and so on.
    on : exception class, its name (``"module.Class"``), or tuple of these
        Other exceptions end the task at once. Default: every exception deserves another run.
    factor : float
        By what the wait grows, at least 1.
    most : float or str
        The longest wait.

    Raises
    ------
    TypeError, ValueError
        An argument makes no sense.

    Examples
    --------
    >>> Retry(3, backoff="100ms", on=(OSError, TimeoutError))
    Retry(3, backoff=0.1, on=('builtins.OSError', 'builtins.TimeoutError'))
    """

    backoff: Backoff | None
    on: tuple[str, ...]

    def __new__(
        cls, max: int, backoff: float | str = 0, on: Any = (), *, factor: float = 2.0, most: float | str = "60s"
    ) -> Retry:
        if isinstance(max, bool) or not isinstance(max, int):
            raise TypeError(f"Retry(max=...) must be a whole number, not {max!r}")
        if max < 0:
            raise ValueError(f"Retry(max=...) must not be negative, got {max}")
        self = super().__new__(cls, max)
        first_s, most_s = _seconds("backoff", backoff), _seconds("most", most)
        if isinstance(factor, bool) or not isinstance(factor, (int, float)):
            raise TypeError(f"Retry(factor=...) must be a number, not {factor!r}")
        if not factor >= 1:
            raise ValueError(f"Retry(factor=...) must be at least 1, got {factor!r}")
        self.backoff = Backoff(first_s, float(factor), most_s) if first_s else None
        self.on = tuple([_name(one) for one in (on if isinstance(on, (tuple, list)) else (on,))])
        return self

    def __repr__(self) -> str:
        text = f"Retry({int(self)}"
        if self.backoff is not None:
            text += f", backoff={self.backoff.first_s:g}"
        if self.on:
            text += f", on={self.on!r}"
        if self.backoff is not None and (self.backoff.factor, self.backoff.most_s) != (2.0, 60.0):
            text += f", factor={self.backoff.factor:g}, most={self.backoff.most_s:g}"
        return f"{text})"

    def __reduce__(self) -> Any:
        backoff = self.backoff or Backoff(0.0)
        return _again, (int(self), backoff.first_s, self.on, backoff.factor, backoff.most_s)


def _again(max: int, backoff: float, on: tuple[str, ...], factor: float, most: float) -> Retry:
    return Retry(max, backoff, on, factor=factor, most=most)


def _seconds(name: str, value: float | str) -> float:
    seconds: Any = None
    if not isinstance(value, bool):
        try:
            seconds = parse_timedelta(value)
        except (TypeError, ValueError, KeyError):
            pass
    if seconds is None:
        raise TypeError(f"Retry({name}=...) must be a number of seconds, or a time such as '1s', not {value!r}")
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"Retry({name}=...) must not be negative or endless, got {value!r}")
    return float(seconds)


def _name(kind: Any) -> str:
    if isinstance(kind, str) and "." in kind:
        return kind
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return error_names(kind)[0]
    raise TypeError(f"Retry(on=...) takes exception classes, or their names such as 'builtins.OSError', not {kind!r}")
