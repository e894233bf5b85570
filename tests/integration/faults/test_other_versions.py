"""Peers of another version: turned away with both versions in one line, or let in with a warning at both ends."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from distributed.versions import VersionMismatchWarning, get_versions

from distributed.base import versions
from distributed.base.errors import HandshakeRefused
from distributed.comm import handshake
from distributed.testing import gen_test, inc
from tests.integration.cli.test_programs import WORKER, running
from tests.integration.comm.loops import until

from .places import client, process, records, scheduler_here

pytestmark = pytest.mark.usefixtures("private_places")

OTHER_PROTOCOL = """
from distributed.comm import handshake
handshake.PROTOCOL_VERSION = 99
"""
OTHER_PACKAGE = """
from distributed.base import versions
original = versions.package_version
versions.package_version = lambda name: "0.0.1" if name == "cloudpickle" else original(name)
"""


@pytest.fixture
def other_cloudpickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process seems to have another version of a package."""
    original = versions.package_version
    monkeypatch.setattr(versions, "package_version", lambda n: "0.0.1" if n == "cloudpickle" else original(n))
    versions.own_versions.cache_clear()


@pytest.fixture(autouse=True)
def look_up_afresh() -> Any:
    yield
    versions.own_versions.cache_clear()


@gen_test()
async def test_worker_with_another_protocol(tmp_path: Path, caplog: Any) -> None:
    preload = tmp_path / "other.py"
    preload.write_text(OTHER_PROTOCOL)
    caplog.set_level(logging.INFO, "distributed")
    async with scheduler_here() as s:
        begin = time.monotonic()
        with running([*WORKER, s.address, "--no-nanny", "--preload", str(preload)], env={**os.environ}) as program:
            code, text = await asyncio.to_thread(program.end_by_itself, 20)
        assert code == 1 and time.monotonic() - begin < 20
        (line,) = [line for line in text.splitlines() if "Error" in line]
        assert "version 99 here, 1 there" in line or "version 3 here, 99 there" in line, text
        assert "same release" in line and s.address in line and "Traceback" not in text, text
        assert not s.workers
    (line,) = [line for line in records(caplog, "distributed.comm") if "Refused" in line]
    assert "protocol version 3 here, 99 there" in line


@gen_test()
async def test_nanny_with_another_protocol(tmp_path: Path) -> None:
    """Its own, or its worker's: one error line and no further try; it says once that it ends."""
    preload = tmp_path / "other.py"
    preload.write_text(OTHER_PROTOCOL)
    async with scheduler_here() as s:
        for option in ("--preload", "--preload-nanny"):
            with running([*WORKER, s.address, "--nthreads", "1", option, str(preload)]) as program:
                code, text = await asyncio.to_thread(program.end_by_itself, 20)
            (line,) = [line for line in text.splitlines() if line.startswith("Error")]
            assert code == 1 and "version 3 here, 99 there" in line and "Traceback" not in text, text
            assert text.count("ends: nanny-close") == 1, text


@gen_test()
async def test_client_with_another_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    async with process("scheduler") as (address, _):
        monkeypatch.setattr(handshake, "PROTOCOL_VERSION", 99)
        with pytest.raises(HandshakeRefused, match=r"(3 here, 99|99 here, 3) there.*same release"):
            async with client(address):
                pass


@gen_test()
async def test_s82_worker_with_another_package(tmp_path: Path, caplog: Any) -> None:
    """Let in; each end has a warning that names both, and tasks run."""
    preload = tmp_path / "other.py"
    preload.write_text(OTHER_PACKAGE)
    caplog.set_level(logging.INFO, "distributed")
    ours = get_versions()["packages"]["cloudpickle"]
    async with scheduler_here() as s:
        with running([*WORKER, s.address, "--no-nanny", "--nthreads", "1", "--preload", str(preload)]) as program:
            text = await asyncio.to_thread(program.line, r"(cloudpickle: .*)")
            assert ours in text and "0.0.1" in text and "scheduler" in text
            await until(lambda: s.workers)
            async with client(s.address) as c:
                assert await c.submit(inc, 1).result() == 2
    (line,) = [line for line in records(caplog, "distributed.scheduler") if "Mismatched versions" in line]
    assert f"cloudpickle: scheduler {ours}, worker tcp://127.0.0.1:" in line and "0.0.1" in line


@gen_test()
async def test_s82_client_with_another_package(other_cloudpickle: None) -> None:
    """Shown at connect, not only when somebody asks for it."""
    async with process("scheduler") as (address, _):
        with pytest.warns(VersionMismatchWarning, match=r"cloudpickle: scheduler [\d.]+, client Client-\S+ 0\.0\.1"):
            async with client(address) as c:
                with pytest.raises(ValueError, match="cloudpickle"):
                    await c.get_versions(check=True)


@gen_test()
async def test_same_versions_no_warning() -> None:
    async with process("scheduler") as (address, _):
        with warnings.catch_warnings():
            warnings.simplefilter("error", VersionMismatchWarning)
            async with client(address):
                pass
