"""All that a cluster knows of itself, written to a file, and read back: ``client.dump_cluster_state``. Shell.

Functions, arguments and results are not in it, only keys, states, places, sizes, texts of errors and the log of what
happened. Nothing secret either: no secret is part of any state.
"""

from __future__ import annotations

import contextlib
import gzip
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from distributed.base import versions
from distributed.base.keys import user_key

FORMATS = ("msgpack", "yaml")
_ENDINGS = {"msgpack": ".msgpack.gz", "yaml": ".yaml"}


# ---------------------------------------------------------------- the cluster's end


async def dump_of_cluster(scheduler: Any, exclude: Collection[str] = ()) -> dict[str, Any]:
    """The state of the scheduler and of all workers, as plain data of text, numbers, lists and dicts."""
    answers = await scheduler.broadcast(msg={"op": "dump_state", "exclude": list(exclude)}, on_error="return")
    workers = {
        address: str(answer) if isinstance(answer, BaseException) else answer for address, answer in answers.items()
    }
    return {
        "scheduler": plain(_scheduler_state(scheduler), exclude),
        "workers": plain(workers, exclude),
        "versions": {"scheduler": plain(versions.get_versions([]), ())},
        "time": time.time(),
    }


def _scheduler_state(scheduler: Any) -> dict[str, Any]:
    return {
        "type": "Scheduler",
        "id": scheduler.id,
        "address": scheduler.address,
        "status": str(scheduler.status),
        "tasks": {str(user_key(key)): _task(ts) for key, ts in scheduler.state.tasks.items()},
        "workers": {address: ws.info for address, ws in scheduler.state.workers.items()},
        "clients": {name: [str(user_key(ts.key)) for ts in cs.wants_what] for name, cs in scheduler.clients.items()},
        "transition_log": list(scheduler.transition_log),
        "events": {topic: list(events) for topic, events in scheduler.events.items()},
        "logs": scheduler.get_logs(),
    }


def _task(ts: Any) -> dict[str, Any]:
    return {
        "state": ts.state,
        "priority": ts.priority,
        "group": ts.group_key,
        "dependencies": [str(user_key(d.key)) for d in ts.dependencies],
        "dependents": [str(user_key(d.key)) for d in ts.dependents],
        "who_wants": [client.client_key for client in ts.who_wants],
        "who_has": [ws.address for ws in ts.who_has],
        "processing_on": None if ts.processing_on is None else ts.processing_on.address,
        "nbytes": ts.nbytes,
        "type": ts.type,
        "run_id": ts.run_id,
        "exception_text": ts.exception_text,
    }


def dump_of_worker(worker: Any, exclude: Collection[str] = ()) -> dict[str, Any]:
    """The state of one worker."""
    state = {
        "type": type(worker).__name__,
        "address": worker.address,
        "name": str(worker.name),
        "status": worker.status.name,
        "nthreads": worker.nthreads,
        "tasks": {str(user_key(key)): _fields(ts) for key, ts in worker.state.tasks.items()},
        "counts": worker.state.counts(),
        "log": list(worker.state.log) if hasattr(worker.state, "log") else [],
        "logs": worker.get_logs(),
    }
    found: dict[str, Any] = plain(state, exclude)
    return found


def _fields(ts: Any) -> dict[str, Any]:
    names = [name for kind in type(ts).__mro__ for name in getattr(kind, "__slots__", ())] or list(vars(ts))
    return {name: getattr(ts, name) for name in names if not name.startswith("_") and hasattr(ts, name)}


def plain(value: Any, exclude: Collection[str], depth: int = 8) -> Any:
    """``value`` as text, numbers, lists and dicts; what is none of them becomes its ``str``. Bytes become a length."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if depth and isinstance(value, Mapping):
        return {str(k): plain(v, exclude, depth - 1) for k, v in value.items() if str(k) not in exclude}
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [plain(member, exclude, depth - 1) for member in value]
    if depth and isinstance(value, msgspec.Struct):
        return plain(msgspec.structs.asdict(value), exclude, depth - 1)
    with contextlib.suppress(Exception):
        return str(value)
    return f"<{type(value).__name__}>"


# ---------------------------------------------------------------- files


def write(dump: Mapping[str, Any], filename: str, format: str, **storage_options: Any) -> str:
    """Write a dump; returns the name of the file, with the ending of its format.

    Parameters
    ----------
    filename
        A path, or (with fsspec installed) a URL.
    format
        ``msgpack`` (packed with gzip) or ``yaml``.

    Raises
    ------
    ValueError
        For any other format.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {format!r}")
    name = filename if filename.endswith(_ENDINGS[format]) else filename + _ENDINGS[format]
    if format == "msgpack":
        content = gzip.compress(msgspec.msgpack.encode(dump))
    else:
        content = yaml.safe_dump(dict(dump), sort_keys=False, allow_unicode=True).encode()
    if "://" in name:
        import fsspec  # type: ignore[import-untyped]

        with fsspec.open(name, "wb", **storage_options) as file:
            file.write(content)
    else:
        Path(name).write_bytes(content)
    return name


async def write_on_scheduler(
    scheduler: Any, url: str, exclude: Collection[str] = (), format: str = "msgpack", **storage_options: Any
) -> str:
    """Write a dump from where the scheduler runs."""
    return write(await dump_of_cluster(scheduler, exclude), url, format, **storage_options)


def load_cluster_dump(url: str, **kwargs: Any) -> dict[str, Any]:
    """The content of a file that ``client.dump_cluster_state`` has written.

    Raises ``ValueError`` for a name that ends in neither ``.msgpack.gz`` nor ``.yaml``.
    """
    if "://" in url:
        import fsspec

        with fsspec.open(url, "rb", **kwargs) as file:
            content = file.read()
    else:
        content = Path(url).read_bytes()
    if url.endswith(".msgpack.gz"):
        found = msgspec.msgpack.decode(gzip.decompress(content), strict=False)
    elif url.endswith((".yaml", ".yml")):
        found = yaml.safe_load(content)
    else:
        raise ValueError(f"a cluster dump ends in .msgpack.gz or .yaml, not as {url!r} does")
    if not isinstance(found, dict) or not {"scheduler", "workers"} <= set(found):
        raise ValueError(f"{url!r} is no cluster dump")
    return found


class DumpArtefact(Mapping[str, Any]):
    """A cluster dump that has been read back, with questions to it.

    Examples
    --------
    >>> dump = DumpArtefact.from_url("dask-cluster-dump.msgpack.gz")  # doctest: +SKIP
    >>> dump.scheduler_tasks_in_state("processing")  # doctest: +SKIP
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self.dump = state

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> DumpArtefact:
        """Read a file."""
        return cls(load_cluster_dump(url, **kwargs))

    def __getitem__(self, key: str) -> Any:
        return self.dump[key]

    def __iter__(self) -> Any:
        return iter(self.dump)

    def __len__(self) -> int:
        return len(self.dump)

    def scheduler_tasks_in_state(self, state: str | None = None) -> dict[str, Any]:
        """The scheduler's tasks, those in ``state`` if given."""
        return _in_state(self.dump["scheduler"]["tasks"], state)

    def worker_tasks_in_state(self, state: str | None = None) -> dict[str, Any]:
        """The tasks of all workers, those in ``state`` if given."""
        found: dict[str, Any] = {}
        for worker in self._workers().values():
            found.update(_in_state(worker["tasks"], state))
        return found

    def scheduler_story(self, *keys_or_stimuli: str) -> list[Any]:
        """The transitions of these keys, or by these stimuli."""
        return _story(self.dump["scheduler"]["transition_log"], keys_or_stimuli)

    def worker_story(self, *keys_or_stimuli: str) -> dict[str, list[Any]]:
        """The same of every worker's log."""
        return {address: _story(worker["log"], keys_or_stimuli) for address, worker in self._workers().items()}

    def missing_workers(self) -> list[str]:
        """Workers that the scheduler knows and whose own state is not here."""
        return [address for address in self.dump["scheduler"]["workers"] if address not in self._workers()]

    def to_yamls(self, root_dir: str | Path | None = None, background: bool = False) -> None:
        """Write each part of the state to a YAML file of its own, in a directory for the scheduler and each worker."""
        root = Path.cwd() if root_dir is None else Path(root_dir)
        places = {"scheduler": self.dump["scheduler"], **self._workers()}
        for place, state in places.items():
            directory = root / str(state.get("id") or place).replace("/", "_").replace(":", "_")
            directory.mkdir(parents=True, exist_ok=True)
            for name, part in state.items():
                (directory / f"{name}.yaml").write_text(yaml.safe_dump(part, sort_keys=False), encoding="utf-8")

    def _workers(self) -> dict[str, Any]:
        return {address: state for address, state in self.dump["workers"].items() if isinstance(state, dict)}


def _in_state(tasks: Mapping[str, Any], state: str | None) -> dict[str, Any]:
    return {key: task for key, task in tasks.items() if state is None or task.get("state") == state}


def _story(log: Iterable[Any], wanted: Collection[str]) -> list[Any]:
    return [entry for entry in log if any(str(part) in wanted for part in entry)]
