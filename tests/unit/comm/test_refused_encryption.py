"""Encryption that is asked for and not there is an error, never a connection in clear."""

from __future__ import annotations

import asyncio

import dask
import pytest

from distributed import Client, Nanny, Scheduler, Security, Worker
from distributed.comm import connect, listen
from distributed.comm.security import refuse


def test_encryption_is_never_left_out_silently() -> None:
    refuse(None)
    for use in (lambda: refuse(Security(require_encryption=True)),):
        with pytest.raises(ValueError, match="TLS"):
            use()


def test_the_setting_keeps_plain_connections_out() -> None:
    with dask.config.set({"distributed.comm.require-encryption": True}):
        assert Security().require_encryption
        for use in (lambda: listen("tcp://127.0.0.1:0", print), lambda: asyncio.run(connect("tcp://127.0.0.1:1"))):
            with pytest.raises(ValueError, match=r"tcp://127\.0\.0\.1.*require-encryption"):
                use()
        listen("inproc://", print)
    for server in (Client, Worker, Nanny):
        with pytest.raises(ValueError, match="TLS"):
            server("tcp://127.0.0.1:1", security=Security(require_encryption=True))
    with pytest.raises(ValueError, match="TLS"):
        Scheduler(security=Security(require_encryption=True))
