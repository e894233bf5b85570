"""``distributed.system_monitor``: what a process and its host use, sample by sample."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import psutil

from distributed.base import settings

_KEPT = 7200


class SystemMonitor:
    """A history of samples of this process; each :meth:`update` adds one.

    Parameters
    ----------
    maxlen
        How many samples are kept; None: all. Default: ``distributed.admin.system-monitor.log-length``.
    monitor_disk_io, monitor_host_cpu
        Whether the host's disks, and its CPU time by kind, are sampled too; None: as configured.
    monitor_gil_contention
        Accepted; there is no such quantity here.

    Attributes
    ----------
    quantities
        name -> deque: ``cpu`` (percent), ``memory`` (bytes), ``time``, ``num_fds``, and rates in bytes a second
        ``host_net_io.read_bps``, ``host_net_io.write_bps``, ``host_disk_io.read_bps``, ``host_disk_io.write_bps``.
    """

    def __init__(
        self,
        maxlen: int | None = -1,
        monitor_disk_io: bool | None = None,
        monitor_host_cpu: bool | None = None,
        monitor_gil_contention: bool | None = None,
    ) -> None:
        place = "distributed.admin.system-monitor"
        self.maxlen = settings.get(f"{place}.log-length", _KEPT) if maxlen == -1 else maxlen
        self.monitor_disk_io = settings.get(f"{place}.disk", True) if monitor_disk_io is None else monitor_disk_io
        self.monitor_host_cpu = (
            settings.get(f"{place}.host-cpu", False) if monitor_host_cpu is None else monitor_host_cpu
        )
        self.proc = psutil.Process()
        self.count = 0
        self.quantities: dict[str, deque[float]] = {}
        self._totals: dict[str, float] = {}
        self._at = 0.0
        self.update()

    def update(self) -> dict[str, float]:
        """Take a sample; returns it."""
        now = time.monotonic()
        with self.proc.oneshot():
            sample = {
                "cpu": self.proc.cpu_percent(),
                "memory": float(self.proc.memory_info().rss),
                "time": time.time(),
                "num_fds": self.proc.num_fds(),
            }
        totals = self._totals_of_host()
        past_s = max(now - self._at, 1e-9)
        for name, total in totals.items():
            sample[name] = (total - self._totals.get(name, total)) / past_s
        if self.monitor_host_cpu:
            sample.update({f"host_cpu.{kind}": v for kind, v in psutil.cpu_times_percent()._asdict().items()})
        self._totals, self._at = totals, now
        self.count += 1
        for name, value in sample.items():
            self.quantities.setdefault(name, deque(maxlen=self.maxlen)).append(value)
        return sample

    def _totals_of_host(self) -> dict[str, float]:
        network: Any = psutil.net_io_counters()
        found = {"host_net_io.read_bps": network.bytes_recv, "host_net_io.write_bps": network.bytes_sent}
        disks: Any = psutil.disk_io_counters() if self.monitor_disk_io else None
        if disks is not None:
            found |= {"host_disk_io.read_bps": disks.read_bytes, "host_disk_io.write_bps": disks.write_bytes}
        return found

    def get_process_memory(self) -> int:
        """Bytes of this process, as of the last sample."""
        return int(self.quantities["memory"][-1])

    def recent(self) -> dict[str, float]:
        """The last sample."""
        return {name: values[-1] for name, values in self.quantities.items()}

    def range_query(self, start: int) -> dict[str, list[float]]:
        """The samples from number ``start`` on, as far as they are kept."""
        kept = len(self.quantities["time"])
        first = max(0, start - (self.count - kept))
        return {name: list(values)[first:] for name, values in self.quantities.items()}

    def close(self) -> None:
        """Nothing is held that has to be given back."""
