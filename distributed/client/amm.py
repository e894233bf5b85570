"""``client.amm``: the memory manager of the scheduler, from a client's side. Thin."""

from __future__ import annotations

from typing import Any


class AMMClientProxy:
    """Starts, stops and asks the memory manager of replicas. In coroutines each call is awaited."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def _ask(self, method: str) -> Any:
        return self._client.sync(self._client.scheduler.amm_handler, method=method)

    def start(self) -> Any:
        """Have the policies run by themselves, every few seconds."""
        return self._ask("start")

    def stop(self) -> Any:
        """Have them run no more by themselves."""
        return self._ask("stop")

    def run_once(self) -> Any:
        """Have them run now, once."""
        return self._ask("run_once")

    def running(self) -> Any:
        """Whether they run by themselves."""
        return self._ask("running")

    def __repr__(self) -> str:
        return f"<memory manager of {self._client.scheduler.address!r}>"
