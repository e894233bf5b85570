"""Every setting is described, every wrong one is named, and the page, the schema and the defaults are in step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import pytest

from distributed import Client, Nanny, Scheduler, Security, Worker
from distributed.base import settings
from distributed.base.settings_check import check, check_one, leaves, schema
from distributed.comm import secrets
from distributed.comm.security import load_security
from distributed.protocol import compression
from distributed.worker.data_transfer import transfer_limits
from distributed.worker.state_machine.tables import WorkerSettings

DEFAULTS = dict(leaves(settings.load_defaults()["distributed"]))
DOCS = Path(__file__).parents[3] / "docs"


def test_defaults_schema_and_page_are_in_step() -> None:
    assert DEFAULTS.keys() == schema().keys()
    for name, entry in schema().items():
        assert entry["does"].endswith(".") and entry.keys() <= {"type", "does", "unused"}
        check_one(name, DEFAULTS[name])
    code = "import runpy; print(runpy.run_path('configuration.py')['page'](), end='')"
    env = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
    done = subprocess.run([sys.executable, "-c", code], cwd=DOCS, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == (DOCS / "CONFIGURATION.md").read_text(), "run python docs/configuration.py"


def test_a_setting_that_is_used_is_read_somewhere() -> None:
    source = "\n".join(path.read_text() for path in (DOCS.parent / "distributed").rglob("*.py"))
    unread = [
        name
        for name, entry in schema().items()
        if "unused" not in entry and f"distributed.{name}" not in source and f'"{name.partition(".")[2]}"' not in source
    ]
    composed = ("comm.tls.", "scheduler.default-task-durations.", "worker.memory.", "version")
    unread = [name for name in unread if not name.startswith(composed)]
    assert not unread, "named nowhere in the code: say in the schema why they are `unused`"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("scheduler.allowed-failures", -1, "a whole number from 0 on"),
        ("scheduler.work-stealing", "yes", "true or false"),
        ("scheduler.worker-ttl", "soon", "a time such as"),
        ("worker.transfer.message-bytes-limit", "much", "a number of bytes"),
        ("worker.memory.pause", "most", "a share of memory"),
        ("worker.resources", 5, "a mapping"),
        ("comm.compression", "rar", "one of auto, lz4, zstd, zlib, none"),
        ("comm.default-scheme", None, "text"),
        ("adaptive.maximum", "x", "a number"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(name: str, value: Any, expected: str) -> None:
    with dask.config.set({f"distributed.{name}": value}), pytest.raises(ValueError, match=expected) as info:
        check()
    assert f"distributed.{name}" in str(info.value) and repr(value) in str(info.value)


def test_right_settings_pass() -> None:
    right = {"scheduler.worker-ttl": None, "worker.memory.pause": False, "comm.compression": False}
    right |= {"scheduler.worker-saturation": float("inf"), "scheduler.idle-timeout": 5, "comm.checksums": True}
    right |= {"worker.resources": {"GPU": 2}, "scheduler.preload": "a_module", "comm.zstd.level": "5"}
    with dask.config.set({f"distributed.{name}": value for name, value in right.items()}):
        check()


@pytest.mark.parametrize("made", [Client, Worker, Nanny, lambda address: Scheduler()], ids=["c", "w", "n", "s"])
def test_nothing_is_made_of_wrong_settings(made: Any) -> None:
    wrong = {"distributed.comm.retry.count": "often"}
    with dask.config.set(wrong), pytest.raises(ValueError, match=r"comm\.retry\.count"):
        made("tcp://127.0.0.1:1")


def test_point_of_use() -> None:
    with dask.config.set({"distributed.comm.timeouts.connect": "later", "distributed.comm.shard": "big"}):
        with pytest.raises(ValueError, match=r"comm\.timeouts\.connect.*'later'"):
            settings.get_seconds("distributed.comm.timeouts.connect")
        with pytest.raises(ValueError, match=r"comm\.shard.*'big'"):
            settings.get_bytes("distributed.comm.shard")


# ---------------------------------------------------------------- settings with an effect that shows here


def test_transfers() -> None:
    limits = {"distributed.worker.transfer.message-bytes-limit": "1MB", "distributed.worker.connections.outgoing": 3}
    assert transfer_limits(WorkerSettings()).gather_nbytes == 50_000_000
    with dask.config.set(limits):
        found = transfer_limits(WorkerSettings())
    assert (found.gather_nbytes, found.max_gathers) == (1_000_000, 3)


def test_zstd_level() -> None:
    pytest.importorskip("zstandard")
    data = memoryview(b"".join(str(i).encode() for i in range(50_000)))
    sizes = []
    for level in (1, 19):
        with dask.config.set({"distributed.comm.zstd.level": level}):
            sizes.append(len(compression.compress(data, "zstd")[1]))  # type: ignore[index]
    assert sizes[1] < sizes[0]


def test_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (secrets.ENV_TOKEN, secrets.ENV_TOKEN_FILE):
        monkeypatch.delenv(name, raising=False)
    with dask.config.set({"distributed.auth.token": "t" * 20}):
        assert secrets.from_environment() == secrets.Secret.from_text("t" * 20)
    path = tmp_path / "token"
    path.write_text("u" * 20)
    path.chmod(0o600)
    with dask.config.set({"distributed.auth.token-file": str(path)}):
        assert secrets.from_environment() == secrets.Secret.from_text("u" * 20)


def loader(info: dict[str, Any]) -> Any:
    assert info == {"address": "tcp://a:1"}
    return Security(require_encryption=True)


def test_security_loader() -> None:
    with dask.config.set({"distributed.client.security-loader": f"{__name__}.loader"}):
        assert load_security("tcp://a:1").require_encryption  # type: ignore[union-attr]
        with pytest.raises(ValueError, match="tls:"):
            Client("tcp://a:1")
    for wrong in ("no_such_module.f", "builtins.dict"):
        with dask.config.set({"distributed.client.security-loader": wrong}), pytest.raises(ValueError, match="loader"):
            load_security("tcp://a:1")


def test_logging_section() -> None:
    code = "import logging, distributed, dask; print(logging.getLogger('distributed.worker').level)"
    env = {**os.environ, "DASK_DISTRIBUTED__LOGGING": "{'distributed.worker': 'error'}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "40", done.stderr
