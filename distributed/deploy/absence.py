"""Which jobs of a cluster are lost: their workers have been here, and are gone for too long. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


class Absence:
    """Remembers since when the workers of each job are missing."""

    def __init__(self) -> None:
        self._seen: set[Any] = set()
        self._missing_since: dict[Any, float] = {}

    def forget(self, job: Any) -> None:
        """A new job has this name: its workers may take as long to come as they like."""
        self._seen.discard(job)
        self._missing_since.pop(job, None)

    def lost(
        self, jobs: Mapping[Any, Collection[Any]], observed: Collection[Any], now: float, limit_s: float
    ) -> list[Any]:
        """The jobs that are lost, each told once; it counts as new when it comes again.

        Parameters
        ----------
        jobs : dict
            The names of its workers, by job. One of them is enough to say that the job is there.
        observed :
            Names of the workers that the scheduler has.
        now : float
            Seconds, by any clock that does not go back.
        limit_s : float
            How long a job may have no worker.
        """
        lost = []
        for job, members in jobs.items():
            if any(member in observed for member in members):
                self._seen.add(job)
                self._missing_since.pop(job, None)
            elif job in self._seen and now - self._missing_since.setdefault(job, now) >= limit_s:
                self._missing_since.pop(job)
                self._seen.discard(job)
                lost.append(job)
        return lost
