"""From the keywords of a cluster, and the settings ``jobqueue.<system>.<keyword>``, to what a job asks for.

Shell only in that it reads settings.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from distributed.base import settings
from distributed.base.settings import parse_bytes, parse_timedelta
from distributed.deploy.queues.job import Job
from distributed.deploy.queues.script import JobRequest, walltime_text

__all__ = ["Keywords"]

_EARLIER = {
    "project": "account",
    "job_extra": "job_extra_directives",
    "header_skip": "job_directives_skip",
    "env_extra": "job_script_prologue",
    "extra": "worker_extra_args",
}
"""Names of earlier versions of dask-jobqueue, and what they are called now."""
_KNOWN = {
    "account", "cores", "death_timeout", "job_directives_skip", "job_extra_directives", "job_name",
    "job_script_prologue", "lifetime_margin", "local_directory", "log_directory", "memory", "nanny", "processes",
    "python", "queue", "shebang", "walltime", "worker_command", "worker_extra_args",
}  # fmt: skip
_WORKER_COMMAND = "distributed.cli.dask_worker"


class Keywords:
    """What the user has said of the jobs.

    Parameters
    ----------
    dialect
        The class of the jobs.
    config_name
        Where defaults are looked for.
    given
        The user's keywords. ``TypeError`` names one that is unknown.
    """

    def __init__(self, dialect: type[Job], config_name: str, given: Mapping[str, Any]) -> None:
        self.dialect, self.config_name = dialect, config_name
        known = _KNOWN | set(dialect.options)
        self._given: dict[str, Any] = {}
        for name, value in given.items():
            now = name if name in known else _EARLIER.get(name, name)
            if now not in known:
                raise TypeError(
                    f"a cluster of {dialect.system} has no keyword {name!r}; it knows {', '.join(sorted(known))}"
                )
            if value is not None:
                self._given[now] = value

    def of(self, name: str, given: Any = None, default: Any = None) -> Any:
        """What was given, else what the settings say, else the default."""
        if given is None:
            given = self._given.get(name)
        if given is None and self.config_name:
            names = [name, *(old for old, new in _EARLIER.items() if new == name)]
            found = (settings.get(f"jobqueue.{self.config_name}.{key.replace('_', '-')}", None) for key in names)
            given = next((value for value in found if value not in (None, [], "")), None)
        return default if given is None else given

    def request(self, cluster: str, folder: Path, network: Mapping[str, str | None], security: Any) -> JobRequest:
        """What each job asks for.

        Raises
        ------
        ValueError
            A size or time makes no sense.
        """
        cores, processes, memory = self._sizes()
        walltime = self.of("walltime")
        text, seconds = (None, None) if walltime is None else walltime_text(walltime, self.dialect.walltime_unit_s)
        margin = self.of("lifetime_margin")
        return JobRequest(
            cluster=cluster,
            cores=cores,
            memory=memory,
            processes=processes,
            folder=str(folder),
            log_directory=str(Path(self.of("log_directory", default=folder / "logs")).expanduser().absolute()),
            queue=self.of("queue"),
            account=self.of("account"),
            walltime=text,
            walltime_s=seconds,
            job_name=self.of("job_name", default="dask-worker"),
            directives=self.of("job_extra_directives", default=()),
            skip=_lines("job_directives_skip", self.of("job_directives_skip", default=())),
            prologue=_lines("job_script_prologue", self.of("job_script_prologue", default=())),
            command=self._command(),
            arguments=self._arguments(cores, processes, memory, folder, network, security),
            shebang=self.of("shebang", default="#!/usr/bin/env bash"),
            margin_s=None if margin is None else float(parse_timedelta(margin)),
            options={name: self.of(name) for name in self.dialect.options},
        )

    def _sizes(self) -> tuple[int, int, int]:
        cores, memory = self.of("cores"), self.of("memory")
        if not cores or not memory:
            raise ValueError("cores= and memory= must say what one job gets, such as cores=8, memory='16 GB'")
        cores, processes, nbytes = int(cores), int(self.of("processes", default=1)), int(parse_bytes(memory))
        if not 1 <= processes <= cores:
            raise ValueError(f"processes={processes}: a job with cores={cores} holds between 1 and {cores} workers")
        return cores, processes, nbytes

    def _command(self) -> list[str]:
        python = str(self.of("python", default=sys.executable))
        words = shlex.split(str(self.of("worker_command", default=_WORKER_COMMAND)))
        return [python, "-m", *words]

    def _arguments(
        self, cores: int, processes: int, memory: int, folder: Path, network: Mapping[str, str | None], security: Any
    ) -> list[str]:
        words = ["--scheduler-file", str(folder / "scheduler.json"), "--nthreads", str(cores // processes)]
        words += ["--memory-limit", str(memory // processes)]
        words += ["--nworkers", str(processes)] if processes > 1 else []
        words += ["--nanny" if self.of("nanny", default=True) or processes > 1 else "--no-nanny"]
        words += ["--death-timeout", str(self.of("death_timeout", default=60))]
        local = self.of("local_directory")
        words += ["--local-directory", str(local)] if local else []
        for name, value in network.items():
            words += [f"--{name}", value] if value else []
        return [
            *words,
            *_certificates(security),
            *_lines("worker_extra_args", self.of("worker_extra_args", default=())),
        ]


def _certificates(security: Any) -> list[str]:
    """Options that name the workers' certificates; what is no file cannot go to another machine in a script."""
    if security is None or isinstance(security, bool):
        return []
    config = security.get_tls_config_for_role("worker")
    words = []
    for name, flag in (("ca_file", "--tls-ca-file"), ("cert", "--tls-cert"), ("key", "--tls-key")):
        value = config.get(name)
        if value is None:
            continue
        if "\n" in value:
            raise ValueError("security= of jobs must name certificates in files that all machines see, not hold them")
        words += [flag, str(Path(value).absolute())]
    return words


def _lines(name: str, value: Any) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name}= must be a list of texts, not {value!r}")
    return [str(item) for item in value]
