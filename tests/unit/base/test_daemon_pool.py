"""A pool whose threads do not keep the program alive."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from concurrent.futures import CancelledError

import pytest

from distributed.base.daemon_pool import DaemonThreadPool


def test_calls_run_at_once_up_to_the_number_of_threads() -> None:
    pool = DaemonThreadPool(2, "two")
    both = threading.Barrier(2)
    futures = [pool.submit(both.wait, 10) for _ in range(2)]
    assert sorted(future.result(10) for future in futures) == [0, 1]
    assert {pool.submit(threading.current_thread).result(10).name for _ in range(20)} <= {"two_0", "two_1"}
    assert all(thread.daemon for thread in pool._threads)
    pool.shutdown()
    assert not any(thread.is_alive() for thread in pool._threads)


def test_what_is_raised_reaches_the_future() -> None:
    pool = DaemonThreadPool(1, "one")
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 / 0).result(10)
    with pytest.raises(SystemExit):
        pool.submit(sys.exit).result(10)
    assert pool.submit(max, 1, 2).result(10) == 2  # the thread lives on
    pool.shutdown()


def test_shutdown_takes_back_what_has_not_begun() -> None:
    pool = DaemonThreadPool(1, "one")
    begun, gate = threading.Event(), threading.Event()
    first = pool.submit(lambda: (begun.set(), gate.wait(10)))
    second = pool.submit(max, 1, 2)
    assert begun.wait(10)
    pool.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(CancelledError):
        second.result(10)
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(max, 1, 2)
    gate.set()
    assert first.result(10)[1]
    pool.shutdown()


def test_a_pool_that_nobody_holds_ends_its_threads() -> None:
    pool = DaemonThreadPool(1, "one")
    pool.submit(max, 1, 2).result(10)
    (thread,) = pool._threads
    del pool
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_a_call_that_hangs_does_not_keep_the_program() -> None:
    program = (
        "import threading; from distributed.base.daemon_pool import DaemonThreadPool;"
        "DaemonThreadPool(1, 'one').submit(threading.Event().wait); print('end')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "end\n", done.stderr
