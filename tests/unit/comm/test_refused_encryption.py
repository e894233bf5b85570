"""Encryption that is asked for and not there is an error, never a connection in clear."""

from __future__ import annotations

import asyncio

import dask
import pytest

from distributed import Scheduler, Security
from distributed.comm import connect, listen
from distributed.comm.offers import must_encrypt


def test_certificates_that_must_count_go_with_their_scheme() -> None:
    security = Security(require_encryption=True)
    for use in (
        lambda: listen("tcp://127.0.0.1:0", print, security=security),
        lambda: asyncio.run(connect("tcp://127.0.0.1:1", security=security)),
    ):
        with pytest.raises(ValueError, match=r"write tls://127\.0\.0\.1"):
            use()
    listen("inproc://", print, security=security)
    assert Scheduler(security=security)._listen_address == "tls://127.0.0.1:0"


def test_without_certificates_there_is_no_tls_address() -> None:
    with pytest.raises(TypeError, match=r"tls://127\.0\.0\.1:0 needs certificates"):
        listen("tls://127.0.0.1:0", print)
    with pytest.raises(TypeError, match=r"tls://127\.0\.0\.1:1 needs certificates"):
        asyncio.run(connect("tls://127.0.0.1:1", security=Security()))


def test_the_setting_keeps_connections_in_clear_within_the_machine() -> None:
    assert not must_encrypt("tcp://192.0.2.1:5")
    with dask.config.set({"distributed.comm.require-encryption": True}):
        assert must_encrypt("tcp://192.0.2.1:5")
        assert not must_encrypt("tcp://127.0.0.1:5") and not must_encrypt("unix:///run/x")
        listen("tcp://127.0.0.1:0", print)
