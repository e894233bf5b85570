"""What a scheduler is started with and watched by: settings, addresses, the log's tail, idleness, extra services.

Shell. Reads the configuration once, when the scheduler is made.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from distributed.base import settings
from distributed.base.settings import parse_bytes, parse_timedelta
from distributed.comm.addressing import address_from_user_args
from distributed.scheduler.state_machine import SchedulerSettings, SchedulerState

logger = logging.getLogger("distributed.scheduler")

LOOPBACK = "127.0.0.1"
_PREFIX = "distributed.scheduler."


def core_settings(allowed_failures: int | None = None, worker_ttl: Any = None) -> SchedulerSettings:
    """The core's settings from the configuration; arguments win."""
    defaults = SchedulerSettings()
    durations = settings.get(_PREFIX + "default-task-durations", {}) or {}
    return SchedulerSettings(
        allowed_failures=_count(
            "allowed_failures",
            settings.get(_PREFIX + "allowed-failures", 3) if allowed_failures is None else allowed_failures,
        ),
        saturation=_saturation(settings.get(_PREFIX + "worker-saturation", defaults.saturation)),
        prefetch_s=_seconds(settings.get(_PREFIX + "prefetch", None), defaults.prefetch_s),
        unknown_duration_s=_seconds(settings.get(_PREFIX + "unknown-task-duration", None), defaults.unknown_duration_s),
        default_durations_s={name: float(parse_timedelta(value)) for name, value in durations.items()},
        bandwidth=float(parse_bytes(settings.get(_PREFIX + "bandwidth", defaults.bandwidth))),
        unknown_nbytes=int(parse_bytes(settings.get(_PREFIX + "default-data-size", defaults.unknown_nbytes))),
        stealing=bool(settings.get(_PREFIX + "work-stealing", True)),
        worker_ttl_s=_limit(settings.get(_PREFIX + "worker-ttl", None) if worker_ttl is None else worker_ttl),
        suspect_s=_limit(settings.get(_PREFIX + "suspect-after", defaults.suspect_s)),
        lost_s=_limit(settings.get(_PREFIX + "lost-after", defaults.lost_s)),
        lost_alone_s=_limit(settings.get(_PREFIX + "lost-after-alone", defaults.lost_alone_s)),
        worker_grace_s=_limit(settings.get(_PREFIX + "worker-grace", defaults.worker_grace_s)),
        client_grace_s=_limit(settings.get(_PREFIX + "client-grace", defaults.client_grace_s)),
        no_workers_timeout_s=_limit(settings.get(_PREFIX + "no-workers-timeout", None)),
    )


def _seconds(value: Any, default: float) -> float:
    return default if value is None else float(parse_timedelta(value))


def _limit(value: Any) -> float | None:
    """A time after which something happens; None, infinity and a false value: never."""
    if value is None or value is False:
        return None
    found = float(parse_timedelta(value))
    return None if math.isinf(found) else found


def _saturation(value: Any) -> float:
    number = float(value)
    if math.isnan(number) or number <= 0:
        raise ValueError(f"`distributed.scheduler.worker-saturation` must be a positive number, not {value!r}")
    return number


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a whole number from 0 on, not {value!r}")
    return value


def idle_limit(value: Any) -> float | None:
    """Seconds of idleness after which the scheduler ends; None: never."""
    found = _limit(settings.get(_PREFIX + "idle-timeout", None) if value is None else value)
    return found or None


def listen_address(
    host: str | None, port: Any, interface: str | None, protocol: str | None, default_port: int
) -> tuple[str, tuple[int, ...]]:
    """Where to listen, and the ports to try next when that one is taken.

    Without a host or interface: on the loopback address; an empty ``host`` means all interfaces. ``port`` None: the
    default one or, when it is taken, the next that is free.
    """
    if host is None and interface is None and (protocol or "tcp").rstrip(":/") != "inproc":
        host = LOOPBACK
    by_default = port is None and not _names_a_port(host or "")
    if by_default:
        port = default_port
    found = address_from_user_args(host=host, port=port, interface=interface, protocol=protocol)
    # The port behind the default one is that of the web pages.
    more = (*range(default_port + 2, default_port + 14), 0) if by_default else ()
    return found or f"tcp://:{port or 0}", more


def _names_a_port(host: str) -> bool:
    rest = host.rpartition("://")[2].rpartition("]")[2]
    return rest.count(":") == 1 and rest.rpartition(":")[2].isdigit()


class IdleWatch:
    """Ends a scheduler that has had nothing to do for a while: no task that runs or could, and no new submission.

    Parameters
    ----------
    limit_s
        Seconds.
    on_idle
        Called once, when that much time has passed.
    """

    def __init__(self, state: SchedulerState, limit_s: float | None, on_idle: Callable[[], Any]) -> None:
        self.limit_s = limit_s
        self.idle_since: float | None = None
        self._state = state
        self._on_idle = on_idle
        self._seen = -1
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch, when there is a limit."""
        if self.limit_s is not None:
            self._look()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def check(self) -> float | None:
        """Since when (on the loop's clock) the scheduler is idle; None: it is not."""
        state = self._state
        now = asyncio.get_running_loop().time()
        busy = any(ws.processing for ws in state.workers.values()) or len(state.queued) or state.unrunnable
        worked = state.run_counter != self._seen
        self._seen = state.run_counter
        if busy:
            self.idle_since = None
        elif worked or self.idle_since is None:
            self.idle_since = now
        return self.idle_since

    def _look(self) -> None:
        assert self.limit_s is not None
        loop = asyncio.get_running_loop()
        since = self.check()
        if since is not None and loop.time() - since >= self.limit_s:
            self._timer = None
            logger.info("The scheduler has had nothing to do for %g s and ends", self.limit_s)
            self._on_idle()
            return
        wait = self.limit_s / 4 if since is None else min(self.limit_s / 4, since + self.limit_s - loop.time())
        self._timer = loop.call_later(max(0.01, wait), self._look)


class Services:
    """What runs beside the scheduler: the HTTP server (named ``dashboard``), and what users add by ``services=``."""

    def __init__(self) -> None:
        self.by_name: dict[str, Any] = {}

    def add_all(self, scheduler: Any, specs: Mapping[Any, Any], options: Mapping[str, Mapping[str, Any]]) -> None:
        """Start users' services: ``{name or (name, port): class or function}``; one that fails is logged."""
        for key, cls in specs.items():
            name, port = key if isinstance(key, tuple) else (key, 0)
            try:
                service = cls(scheduler, **{"io_loop": scheduler.loop, **options.get(name, {})})
                listen = getattr(service, "listen", None)
                if listen is not None:
                    listen((LOOPBACK, port) if isinstance(port, int) else port)
                self.by_name[name] = service
            except Exception:
                logger.exception("Could not launch service %r", key)

    def ports(self) -> dict[str, int]:
        """Port by name."""
        return {str(name): service.port for name, service in self.by_name.items() if getattr(service, "port", None)}

    async def stop(self) -> None:
        """Stop all."""
        services, self.by_name = self.by_name, {}
        for name, service in services.items():
            try:
                answer = service.stop()
                if inspect.isawaitable(answer):
                    await answer
            except Exception:
                logger.exception("Error while stopping service %r", name)


def event_log_length() -> int:
    """How many events of a topic are kept."""
    return int(settings.get("distributed.admin.low-level-log-length", 1000) or 1000)


def names_of(value: Iterable[str] | str | None) -> list[str]:
    """One name or several as a list."""
    return [value] if isinstance(value, str) else list(value or ())
