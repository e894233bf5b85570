"""Keywords of LocalCluster: what they come to, and how bad ones are refused."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from distributed import LocalCluster, Nanny, Worker
from distributed.deploy.local import _bare_host, _check_options, _sizes, loopback_page
from distributed.deploy.utils import CPU_COUNT


def test_positional_order_of_the_seeds() -> None:
    names = list(inspect.signature(LocalCluster.__init__).parameters)[1:]
    assert names[:25] == [
        "n_workers", "threads_per_worker", "processes", "loop", "start", "host", "ip", "scheduler_port", "silence_logs",
        "dashboard_address", "worker_dashboard_address", "diagnostics_port", "services", "worker_services",
        "service_kwargs", "asynchronous", "security", "protocol", "blocked_handlers", "interface", "worker_class",
        "scheduler_kwargs", "scheduler_sync_interval", "name", "worker_kwargs",
    ]  # fmt: skip


def test_seed_defaults() -> None:
    parameters = inspect.signature(LocalCluster.__init__).parameters
    seeds = {
        "n_workers": None, "threads_per_worker": None, "loop": None, "start": None, "host": None, "ip": None,
        "scheduler_port": 0, "silence_logs": 30, "dashboard_address": ":8787", "worker_dashboard_address": None,
        "diagnostics_port": None, "services": None, "worker_services": None, "service_kwargs": None,
        "asynchronous": False, "security": None, "protocol": None, "blocked_handlers": None, "interface": None,
        "worker_class": None,
    }  # fmt: skip
    assert {name: parameters[name].default for name in seeds} == seeds


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None, True), (CPU_COUNT, 1)),
        ((None, None, False), (1, CPU_COUNT)),
        ((3, 2, True), (3, 2)),
        ((3, 2, False), (3, 2)),
        ((1, None, True), (1, CPU_COUNT)),
        ((CPU_COUNT * 2, None, True), (CPU_COUNT * 2, 1)),
        ((0, None, True), (0, 1)),
        ((None, 1, True), (CPU_COUNT, 1)),
        ((None, CPU_COUNT * 4, True), (1, CPU_COUNT * 4)),
        ((None, 3, False), (1, 3)),
    ],
)
def test_sizes(given: tuple[Any, Any, bool], expected: tuple[int, int]) -> None:
    assert _sizes(*given) == expected


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"n_workers": "4"}, TypeError, "n_workers"),
        ({"n_workers": 2.0}, TypeError, "n_workers"),
        ({"n_workers": True}, TypeError, "n_workers"),
        ({"n_workers": -1}, ValueError, "n_workers"),
        ({"threads_per_worker": 0}, ValueError, "threads_per_worker"),
        ({"threads_per_worker": "1"}, TypeError, "threads_per_worker"),
        ({"scheduler_port": "x"}, TypeError, "scheduler_port"),
        ({"n_worker": 4}, TypeError, "did you mean 'n_workers'"),
        ({"memory_limits": 4}, TypeError, "did you mean 'memory_limit'"),
        ({"worker_class": "distributed.Nanny"}, TypeError, "worker_class"),
        ({"protocol": "inproc", "processes": True}, ValueError, "processes=False"),
        ({"dashboard_address": 3.5}, TypeError, "dashboard_address"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        LocalCluster(**arguments)


def test_worker_options_are_checked_against_the_class() -> None:
    class Picky(Worker):
        def __init__(self, scheduler: str, *, color: str = "red", **kwargs: Any) -> None:
            super().__init__(scheduler, **kwargs)

    _check_options(LocalCluster, Picky, {"anything": 1})
    _check_options(LocalCluster, Nanny, {"memory_limit": 1, "resources": {"GPU": 1}, "env": {}})
    with pytest.raises(TypeError, match="'colour'"):
        _check_options(LocalCluster, Nanny, {"colour": "red"})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("tcp://127.0.0.1:8786", "127.0.0.1"),
        ("tcp://[::1]:1", "::1"),
        ("::1", "::1"),
        ("x:1", "x"),
    ],
)
def test_bare_host(host: str, expected: str) -> None:
    assert _bare_host(host) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (":8787", "127.0.0.1:8787"),
        (":0", "127.0.0.1:0"),
        ("0.0.0.0:1", "0.0.0.0:1"),
        ("", "127.0.0.1:8787"),
        (8788, "127.0.0.1:8788"),
        (None, None),
    ],
)
def test_pages_stay_on_loopback(address: Any, expected: Any) -> None:
    assert loopback_page(address) == expected
