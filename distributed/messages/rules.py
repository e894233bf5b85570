"""What a submission asks of the runs of its tasks, beside where and when: limits, a process of their own, retries."""

from __future__ import annotations

from msgspec import Struct


class RunRules(Struct, array_like=True, omit_defaults=True, frozen=True):
    """For the worker; the scheduler passes it on as it is.

    ``timeout_s`` is how long a run may take (None: for ever). ``isolated``: in a process of its own. ``retry_on``:
    names (``module.Class``) of the exceptions that deserve another run (empty: all do).
    """

    timeout_s: float | None = None
    isolated: bool = False
    retry_on: tuple[str, ...] = ()


class Backoff(Struct, array_like=True, omit_defaults=True, frozen=True):
    """How long a task that has raised waits for its next run: ``first_s``, then ``factor`` times that and so on, at
    most ``most_s``."""

    first_s: float
    factor: float = 2.0
    most_s: float = 60.0

    def delay_s(self, n_failed: int) -> float:
        """Behind the failure of this number, from 1 on.

        >>> Backoff(1.0).delay_s(3)
        4.0
        """
        delay = self.first_s
        for _ in range(n_failed - 1):
            if delay >= self.most_s or self.factor == 1.0:
                break
            delay *= self.factor
        return min(delay, self.most_s)
