"""What handles that are held have in common: ``with``, ``async with``, and how long to wait."""

from __future__ import annotations

from typing import Any, Self

from distributed.coordination.handle import Handle, timeout_seconds


class HeldHandle(Handle):
    """A handle that is acquired and released."""

    def acquire(self) -> Any:
        raise NotImplementedError

    def release(self) -> Any:
        raise NotImplementedError

    def failed(self, error: BaseException) -> None:
        """A release that could not be done: the lease has ended with the session, and acquiring goes on."""

    def __enter__(self) -> Self:
        self._refuse_with(False, "async with")
        self.acquire()
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    async def __aenter__(self) -> Self:
        self._refuse_with(True, "with")
        await self.acquire()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.release()


def patience(blocking: Any, timeout: Any) -> float | None:
    """Seconds to wait for a lock, None: without end. Raises TypeError and ValueError as ``acquire`` says."""
    if not isinstance(blocking, bool) and blocking not in (0, 1):
        raise TypeError(f"blocking= takes True or False, not {blocking!r}")
    timeout_s = timeout_seconds(timeout)
    if blocking:
        return timeout_s
    if timeout is not None:
        raise ValueError("timeout= makes no sense with blocking=False, which does not wait")
    return 0.0
