"""The settings of shuffles (``distributed.p2p``), read once for each worker. Shell."""

from __future__ import annotations

from dataclasses import dataclass

from distributed.base import settings
from distributed.protocol import compression

_SHARE_OF_MEMORY = 16


@dataclass(frozen=True)
class ShuffleSettings:
    """Seconds and bytes."""

    concurrency: int = 10
    """Messages of one transfer that may be on their way at once."""
    n_retries: int = 10
    min_delay_s: float = 1.0
    max_delay_s: float = 30.0
    buffer_nbytes: int = 100 << 20
    """What all shuffles of a worker may hold in memory before they write to disk."""
    disk: bool = True
    compression: str | None = None
    n_threads: int = 1


def load(memory_limit_nbytes: int) -> ShuffleSettings:
    """What the configuration says, for a worker with this memory limit (0: none).

    Raises
    ------
    ValueError
        A setting makes no sense; the text names it.
    """
    n_threads = settings.get("distributed.p2p.threads", None) or 1
    buffer_nbytes = int(settings.get_bytes("distributed.p2p.storage.buffer", "100 MiB"))
    if buffer_nbytes <= 0:
        raise ValueError(f"distributed.p2p.storage.buffer must be a positive size, not {buffer_nbytes}")
    if memory_limit_nbytes:
        buffer_nbytes = max(1, min(buffer_nbytes, memory_limit_nbytes // _SHARE_OF_MEMORY))
    return ShuffleSettings(
        concurrency=max(1, int(settings.get("distributed.p2p.comm.concurrency", 10))),
        n_retries=max(0, int(settings.get("distributed.p2p.comm.retry.count", 10))),
        min_delay_s=float(settings.get_seconds("distributed.p2p.comm.retry.delay.min", "1s")),
        max_delay_s=float(settings.get_seconds("distributed.p2p.comm.retry.delay.max", "30s")),
        buffer_nbytes=buffer_nbytes,
        disk=bool(settings.get("distributed.p2p.storage.disk", True)),
        compression=_compression(settings.get("distributed.p2p.storage.compression", None)),
        n_threads=int(n_threads),
    )


def _compression(name: str | None) -> str | None:
    """A compression that is installed. Unlike on a wire, what this process writes only this process reads."""
    if not name:
        return None
    if name == "auto":
        return next((known for known in compression.available() if known != "zlib"), None)
    if compression.compressor(name) is None:
        raise ValueError(f"distributed.p2p.storage.compression is {name!r}, which is not installed on this worker")
    return name
