"""``distributed.utils``: small tools that other packages take from there, each from the room where it lives."""

from __future__ import annotations

from distributed.base.lazy import lazy_names

_CALLABLES = "distributed.upstream.callables"
_WAITING = "distributed.upstream.waiting"
_LOGGING = "distributed.upstream.log_errors"
_CONVERSIONS = "distributed.upstream.conversions"
_ADDRESSING = "distributed.comm.addressing"
_LOOPS = "distributed.rpc.loop_runner"

_HOMES = {
    "All": _WAITING,
    "Any": f"{_WAITING}:AnyOf",
    "CancelledError": "concurrent.futures",
    "Deadline": _WAITING,
    "EmptyContext": _CONVERSIONS,
    "Log": "distributed.deploy.logs",
    "Logs": "distributed.deploy.logs",
    "LoopRunner": _LOOPS,
    "NoOpAwaitable": "distributed.deploy.spec",
    "RateLimiterFilter": _LOGGING,
    "SyncMethodMixin": _LOOPS,
    "TimeoutError": "distributed.base.errors",
    "TupleComparable": _CONVERSIONS,
    "clean_dashboard_address": _CONVERSIONS,
    "cli_keywords": _CALLABLES,
    "command_has_keyword": _CALLABLES,
    "empty_context": _CONVERSIONS,
    "ensure_ip": _ADDRESSING,
    "ensure_memoryview": _CONVERSIONS,
    "format_bytes": "dask.utils",
    "format_dashboard_link": "distributed.client.dashboard_link",
    "format_time": "dask.utils",
    "funcname": "dask.utils",
    "get_fileno_limit": _CONVERSIONS,
    "get_ip": _ADDRESSING,
    "get_ip_interface": _ADDRESSING,
    "get_ipv6": _ADDRESSING,
    "get_mp_context": _CONVERSIONS,
    "get_traceback": _LOGGING,
    "has_arg": _CALLABLES,
    "has_keyword": _CALLABLES,
    "import_file": _CALLABLES,
    "import_term": _CALLABLES,
    "in_async_call": _LOOPS,
    "is_coroutine_function": f"{_CALLABLES}:iscoroutinefunction",
    "is_kernel": _CONVERSIONS,
    "is_valid_xml": _CONVERSIONS,
    "iscoroutinefunction": _CALLABLES,
    "json_load_robust": _CONVERSIONS,
    "key_split": "dask.utils",
    "key_split_group": _CONVERSIONS,
    "log_errors": _LOGGING,
    "nbytes": _CONVERSIONS,
    "offload": _WAITING,
    "open_port": "distributed.comm.addressing",
    "parse_bytes": "dask.utils",
    "parse_ports": _CALLABLES,
    "parse_timedelta": "dask.utils",
    "read_block": "fsspec.utils",
    "recursive_to_dict": _CONVERSIONS,
    "run_in_executor_with_context": _WAITING,
    "seek_delimiter": "fsspec.utils",
    "set_thread_state": _CONVERSIONS,
    "silence_logging_cmgr": _LOGGING,
    "sync": _LOOPS,
    "thread_state": "distributed.worker.runtime",
    "tmp_text": _CONVERSIONS,
    "tmpfile": "dask.utils",
    "truncate_exception": _LOGGING,
    "typename": "dask.utils",
    "url_escape": _CONVERSIONS,
    "wait_for": _WAITING,
    "warn_on_duration": _WAITING,
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
