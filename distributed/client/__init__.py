"""The user's side: Client, Future, and the functions that wait for futures. Names are loaded when first used, because
workers import a module of this room without needing the others."""

from __future__ import annotations

from distributed.base.lazy import lazy_names

_HOMES = {
    "ALL_COMPLETED": "concurrent.futures",
    "Actor": "distributed.client.actor",
    "ActorFuture": "distributed.client.actor",
    "CancelledError": "distributed.base.errors",
    "Client": "distributed.client.client",
    "ClientExecutor": "distributed.client.executor",
    "ClosedClientError": "distributed.client.scheduler_link",
    "DoneAndNotDoneFutures": "distributed.client.waiting",
    "Executor": "distributed.client.client",
    "FIRST_COMPLETED": "concurrent.futures",
    "Future": "distributed.client.futures",
    "FutureCancelledError": "distributed.base.errors",
    "FutureState": "distributed.client.future_table",
    "FuturesCancelledError": "distributed.base.errors",
    "TimeoutError": "distributed.base.errors",
    "_del_global_client": "distributed.client.current",
    "_get_global_client": "distributed.client.current",
    "_set_global_client": "distributed.client.current",
    "as_completed": "distributed.client.waiting",
    "default_client": "distributed.client.current",
    "ensure_default_client": "distributed.client.current",
    "fire_and_forget": "distributed.client.futures",
    "futures_of": "distributed.client.futures",
    "get_client": "distributed.client.current",
    "get_task_metadata": "distributed.diagnostics.task_stream",
    "get_worker": "distributed.client.current",
    "local_client": "distributed.client.current",
    "performance_report": "distributed.diagnostics.report",
    "temp_default_client": "distributed.client.current",
    "wait": "distributed.client.waiting",
    "worker_client": "distributed.client.current",
}

__all__ = sorted(name for name in _HOMES if not name.startswith("_"))

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
