"""Small names that test suites written for this field import: switches, marks and no-ops."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from distributed.comm import connect

NO_AMM = {"distributed.scheduler.active-memory-manager.start": False}


def has_ipv6() -> bool:
    """Whether a socket can listen on the IPv6 loopback address."""
    if not socket.has_ipv6:
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


def requires_ipv6(test_func: Callable[..., Any]) -> Callable[..., Any]:
    """Skip the test where there is no IPv6."""
    return test_func if has_ipv6() else pytest.mark.skip(reason="no IPv6 here")(test_func)


def nodebug(func: Callable[..., Any]) -> Callable[..., Any]:
    """The function as it is: there is no debugging mode to be left."""
    return func


def nodebug_setup_module(module: Any) -> None:
    """Nothing to do."""


def nodebug_teardown_module(module: Any) -> None:
    """Nothing to do."""


def has_pytestmark(test_func: Any, name: str) -> bool:
    """Whether the test bears the mark."""
    marks = getattr(test_func, "pytestmark", [])
    return any(mark.name == name for mark in (marks if isinstance(marks, list) else [marks]))


@contextlib.contextmanager
def check_instances() -> Iterator[None]:
    """Accepted; threads and processes are what is checked."""
    yield


async def assert_can_connect(addr: str, timeout: float = 0.5, **kwargs: Any) -> None:
    """Fail unless somebody who lets us in listens at the address."""
    comm = await connect(addr, timeout)
    comm.abort()


async def assert_cannot_connect(
    addr: str, timeout: float = 0.5, exception_class: type[BaseException] = OSError, **kwargs: Any
) -> None:
    """Fail when somebody lets us in at the address."""
    with pytest.raises(exception_class):
        comm = await connect(addr, timeout)
        comm.abort()
