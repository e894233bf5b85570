"""What a test changes around itself and must put back: configuration, loggers, modules, threads."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import logging
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import dask.config
import pytest
import yaml

from distributed.base import settings

settings.register()

original_config: dict[str, Any] = copy.deepcopy(dask.config.config)

_LASTING_THREADS = (
    "Profile",
    "offload",
    "TCP-Executor",
    "QueueFeederThread",
    "asyncio_",
    "pytest_timeout",
    "ThreadPool",
)


def reset_config() -> None:
    """The configuration as it was when this module was loaded."""
    dask.config.config.clear()
    dask.config.config.update(copy.deepcopy(original_config))


def _reset_config() -> None:
    """``reset_config`` as the public module has it now: other test suites put their own there."""
    surface: Any = sys.modules.get("distributed.testing")
    getattr(surface, "reset_config", reset_config)()


@contextlib.contextmanager
def config_for_cluster_tests(**extra_config: Any) -> Iterator[None]:
    """Settings that make tests quick to fail and clusters quiet."""
    _reset_config()
    with dask.config.set({"distributed.comm.timeouts.connect": "5s"}), dask.config.set(extra_config):
        yield


@contextlib.contextmanager
def new_config(new_config: dict[str, Any]) -> Iterator[None]:
    """A configuration that is the original one, updated by this."""
    before = copy.deepcopy(dask.config.config)
    try:
        dask.config.config.clear()
        dask.config.config.update(copy.deepcopy(original_config))
        dask.config.config.update(copy.deepcopy(new_config))
        yield
    finally:
        dask.config.config.clear()
        dask.config.config.update(before)


@contextlib.contextmanager
def new_config_file(c: dict[str, Any]) -> Iterator[None]:
    """``DASK_CONFIG`` names a temporary file with this configuration, also for child processes."""
    before = os.environ.get("DASK_CONFIG")
    fd, name = tempfile.mkstemp(prefix="dask-config")
    try:
        with os.fdopen(fd, "w") as f:
            f.write(yaml.dump(c))
        os.environ["DASK_CONFIG"] = name
        try:
            yield
        finally:
            if before is None:
                del os.environ["DASK_CONFIG"]
            else:
                os.environ["DASK_CONFIG"] = before
    finally:
        os.remove(name)


@contextlib.contextmanager
def captured_logger(
    logger: str | logging.Logger, level: int = logging.INFO, propagate: bool | None = None
) -> Iterator[io.StringIO]:
    """Everything that a logger says from ``level`` on, as text."""
    target = logging.getLogger(logger) if isinstance(logger, str) else logger
    before = target.level, target.handlers[:], target.propagate, target.disabled
    stream = io.StringIO()
    target.handlers[:] = [logging.StreamHandler(stream)]
    target.setLevel(level)
    target.disabled = False
    if propagate is not None:
        target.propagate = propagate
    try:
        yield stream
    finally:
        target.setLevel(before[0])
        target.handlers[:] = before[1]
        target.propagate = before[2]
        target.disabled = before[3]


@contextlib.contextmanager
def captured_handler(handler: Any) -> Iterator[io.StringIO]:
    """Everything that a stream handler writes, as text."""
    before = handler.stream
    handler.stream = io.StringIO()
    try:
        yield handler.stream
    finally:
        handler.stream = before


@contextlib.contextmanager
def save_sys_modules() -> Iterator[None]:
    """Modules loaded inside are unloaded after, and the path is restored."""
    modules, path = dict(sys.modules), list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in list(sys.modules):
            if name not in modules:
                del sys.modules[name]


@contextlib.contextmanager
def check_thread_leak(timeout: float = 5) -> Iterator[None]:
    """Fail when a thread that was started inside is still there ``timeout`` seconds after."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + timeout
    while leaked := [t for t in threading.enumerate() if t not in before and not t.name.startswith(_LASTING_THREADS)]:
        if time.monotonic() > deadline:
            frames = sys._current_frames()
            stacks = "".join(f"\n{t!r} at {frames.get(t.ident or 0)!r}" for t in leaked)
            pytest.fail(f"{len(leaked)} threads are left:{stacks}")
        time.sleep(0.01)


@contextlib.contextmanager
def check_process_leak(check: bool = True, check_timeout: float = 40, term_timeout: float = 3) -> Iterator[None]:
    """Fail when a child process of ``multiprocessing`` that was started inside is still there."""
    before = set(multiprocessing.active_children())
    yield
    if not check:
        return
    deadline = time.monotonic() + check_timeout
    while leaked := [p for p in multiprocessing.active_children() if p not in before]:
        if time.monotonic() > deadline:
            for process in leaked:
                process.kill()
            raise AssertionError(f"processes are left: {leaked}")
        time.sleep(0.02)


@contextlib.contextmanager
def clean(threads: bool = True, instances: bool = True, processes: bool = True) -> Iterator[None]:
    """A block that must leave no thread and no process behind; the configuration is reset."""
    with contextlib.ExitStack() as stack:
        if threads:
            stack.enter_context(check_thread_leak())
        stack.enter_context(check_process_leak(check=processes))
        _reset_config()
        try:
            yield
        finally:
            _reset_config()
            if instances:
                gc.collect()
