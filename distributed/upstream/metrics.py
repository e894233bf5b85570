"""``distributed.metrics``: clocks."""

from __future__ import annotations

import time as _time

time = _time.time
monotonic = _time.monotonic
perf_counter = _time.perf_counter
process_time = _time.process_time
thread_time = _time.thread_time

__all__ = ["monotonic", "perf_counter", "process_time", "thread_time", "time"]
