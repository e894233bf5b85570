"""A lock of the cluster: a semaphore with one lease, whose name is forgotten when nobody uses it."""

from __future__ import annotations

from typing import Any

from distributed.coordination.held import patience
from distributed.coordination.lease_home import LeaseHome
from distributed.coordination.semaphore import Semaphore


class Lock(Semaphore):
    """One holder at a time, of all clients and tasks together. First come, first served.

    A lock belongs to the client that took it (in a task: to the client of its worker). It is released by ``release``,
    when that client is gone (a killed worker, say), or when the client was not heard of for
    ``distributed.scheduler.locks.lease-timeout``. A lock that a task takes and never releases stays taken as long as
    its worker lives: use ``with``.

    Parameters
    ----------
    name : str, optional
        Locks of one name are one. Default: a new name.
    scheduler_rpc : Client, optional
        By which client to ask. Default: that of the place where it is used.
    loop
        Accepted, without effect.
    client : Client, optional
        Older name of ``scheduler_rpc``.

    Examples
    --------
    >>> with Lock("a file"):  # doctest: +SKIP
    ...     write()
    """

    kind = "lock"
    _transient = True

    def __init__(self, name: Any = None, scheduler_rpc: Any = None, loop: Any = None, client: Any = None) -> None:
        super().__init__(1, name, scheduler_rpc, loop, client)

    def acquire(self, blocking: bool = True, timeout: Any = None) -> Any:  # type: ignore[override]
        """Take the lock; wait until it is free.

        Parameters
        ----------
        blocking : bool
            False: do not wait.
        timeout : float or str, optional
            Seconds (or text such as ``"10s"``) to wait. Default: without end.

        Returns
        -------
        bool
            Whether it is ours now. In coroutines on the client's loop: an awaitable of it.

        Raises
        ------
        ValueError
            ``timeout`` together with ``blocking=False``.

        Examples
        --------
        >>> Lock("x").acquire(timeout="1s")  # doctest: +SKIP
        True
        """
        timeout_s = patience(blocking, timeout)
        return self._here(lambda home: home.acquire(self), lambda: self._acquire(timeout_s))

    def locked(self) -> Any:
        """Whether somebody holds it."""
        return self._here(LeaseHome.n_held, lambda: self._ask("semaphore_value", {}, bool), bool)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name,)
