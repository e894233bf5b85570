"""What one job asks for, and the shell script that it runs. Pure: texts from values.

The script says where the scheduler file is and nothing that is secret. A job of several workers is one ``dask-worker
--nworkers``; an array job is one script whose tasks look up their number in a list.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from distributed.base.formatting import parse_timedelta

__all__ = ["JobRequest", "lifetime_arguments", "script_text", "walltime_seconds", "walltime_text"]

_MARGIN_PART = 0.1
_MOST_MARGIN_S = 300.0


@dataclass(frozen=True)
class JobRequest:
    """One job of a cluster; all jobs of a cluster are alike but for their number.

    Parameters
    ----------
    cluster
        Name of the cluster; the workers of job 3 are called ``<cluster>-3``, or ``<cluster>-3-0``, ... when there are
        several.
    cores, memory, processes
        What a job gets: threads in total, bytes in total, number of workers that share them.
    folder
        Directory of the cluster that all machines see.
    log_directory
        Where jobs leave what they print.
    walltime
        As the batch system takes it.
    walltime_s
        The same in seconds.
    directives, skip
        Directives to add, and texts: directives that contain one are left out.
    prologue
        Lines of shell before the worker.
    arguments
        Of ``dask-worker``, without the name.
    options
        What only one batch system knows.
    """

    cluster: str
    cores: int
    memory: int
    folder: str
    log_directory: str
    processes: int = 1
    queue: str | None = None
    account: str | None = None
    walltime: str | None = None
    walltime_s: float | None = None
    job_name: str = "dask-worker"
    directives: Any = ()
    skip: Sequence[str] = ()
    prologue: Sequence[str] = ()
    command: Sequence[str] = ()
    arguments: Sequence[str] = ()
    shebang: str = "#!/usr/bin/env bash"
    margin_s: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def script_text(request: JobRequest, numbers: Sequence[int], header: Sequence[str], task_number: str) -> str:
    """The script of the jobs ``numbers``.

    Parameters
    ----------
    header
        Directives of the batch system, whole lines.
    task_number
        Shell expression for the task's place in its array job, from 1 on; not used for a single job.
    """
    lines = [request.shebang, *(line for line in header if not any(text in line for text in request.skip))]
    lines += request.prologue
    if len(numbers) == 1:
        name = f"{request.cluster}-{numbers[0]}"
    else:
        lines += [f"NUMBERS=({' '.join(map(str, numbers))})", f"NUMBER=${{NUMBERS[{task_number} - 1]}}"]
        name = f"{request.cluster}-$NUMBER"
    words = [*request.command, "--name", name, *request.arguments, *lifetime_arguments(request)]
    return "\n".join([*lines, " ".join(_shell_word(word) for word in words)]) + "\n"


def lifetime_arguments(request: JobRequest) -> list[str]:
    """Options by which a worker hands over its data and ends before its job is killed.

    Not all of an array job at once: their ends are spread over half the margin either way. Time that the prologue takes
    is taken off by the shell, which counts its own ``SECONDS``. None if the user has said ``--lifetime``.
    """
    if request.walltime_s is None or any(word.startswith("--lifetime") for word in request.arguments):
        return []
    margin = request.margin_s
    if margin is None:
        margin = min(_MARGIN_PART * request.walltime_s, _MOST_MARGIN_S)
    lifetime = max(1, math.floor(request.walltime_s - margin))
    stagger = max(0, math.floor(min(margin, lifetime) / 2))
    return ["--lifetime", f"$(({lifetime} - SECONDS))s", "--lifetime-stagger", f"{stagger}s"]


def walltime_seconds(text: str, unit_s: float) -> float:
    """Seconds of a walltime in digits, colons and days (``1-12:00:00``); ``unit_s``: what a bare number counts.

    >>> walltime_seconds("1-00:30:00", 60)
    88200.0
    >>> walltime_seconds("90", 60)
    5400.0
    """
    days, dash, clock = text.rpartition("-")
    parts = [float(part) for part in clock.split(":")]
    if dash:  # with days, the clock begins with hours
        hours, minutes, seconds = [*parts, 0.0, 0.0][:3]
        return float(days) * 86400 + hours * 3600 + minutes * 60 + seconds
    if len(parts) == 1:
        return parts[0] * unit_s
    seconds = 0.0
    for part in parts:
        seconds = seconds * 60 + part
    return seconds


def walltime_text(value: str | float | timedelta, unit_s: float) -> tuple[str, float]:
    """A walltime as batch systems take it, and in seconds. Their own notation stays as it is.

    >>> walltime_text("90 minutes", 60)
    ('01:30:00', 5400.0)
    >>> walltime_text("1-12", 60)
    ('1-12', 129600.0)

    Raises
    ------
    ValueError
        Neither that nor a duration.
    """
    if isinstance(value, str) and value.strip() and not set(value.strip()) - set("0123456789:-"):
        try:
            return value.strip(), walltime_seconds(value.strip(), unit_s)
        except ValueError:
            raise ValueError(f"walltime={value!r} is no time such as '02:30:00' or '1-12:00:00'") from None
    try:
        seconds = float(parse_timedelta(value))
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"walltime={value!r} is no time such as '02:30:00' or '90 minutes'") from None
    whole = math.ceil(seconds)
    return f"{whole // 3600:02d}:{whole % 3600 // 60:02d}:{whole % 60:02d}", seconds


def _shell_word(word: str) -> str:
    """Quoted, if it must be; variables (``$TMPDIR``) are left for the shell of the job."""
    if "$" not in word:
        return shlex.quote(word)
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`") + '"'
