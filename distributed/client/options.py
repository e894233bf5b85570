"""What a submission may ask for its tasks (priority, retries, workers, ...), checked in one place. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Number, Real
from typing import Any

from distributed.base import settings
from distributed.client.retry import Retry
from distributed.client.run_rules import OWN, make_max_restarts, make_rules
from distributed.messages.amounts import LEAST
from distributed.messages.client_to_scheduler import TaskOptions
from distributed.protocol.plain import dumps_plain

_KNOWN_ANNOTATIONS = OWN | {"priority", "retries", "workers", "allow_other_workers", "resources", "executor"}


def worker_names(workers: Any, name: str = "workers") -> tuple[str, ...] | None:
    """``workers=`` of public calls as a tuple of texts: addresses, names or hosts; None stays None."""
    if workers is None:
        return None
    if isinstance(workers, (str, Number)) and not isinstance(workers, bool):
        return (str(workers),)
    if isinstance(workers, (list, tuple, set, frozenset)) or (
        isinstance(workers, Iterable) and not isinstance(workers, (bytes, Mapping))
    ):
        found = []
        for worker in workers:
            if isinstance(worker, bool) or not isinstance(worker, (str, Number)):
                raise TypeError(f"{name}= must hold addresses, names or hosts of workers, not {worker!r}")
            found.append(str(worker))
        return tuple(found)
    raise TypeError(f"{name}= must be the address, name or host of a worker, or a list of these, not {workers!r}")


def is_for_actor(actor: Any, actors: Any) -> bool:
    """Whether a value stays on its worker: ``actor=``, or its older name ``actors=``."""
    for name, given in (("actor", actor), ("actors", actors)):
        if given is not None and not isinstance(given, bool):
            raise TypeError(f"{name}= takes True or False, not {given!r}")
    return bool(actor or actors)


def make_options(
    priority: Any = 0,
    retries: Any = None,
    workers: Any = None,
    allow_other_workers: Any = False,
    resources: Any = None,
    actor: Any = False,
    annotations: Mapping[str, Any] | None = None,
    timeout: Any = None,
    isolated: Any = None,
    max_restarts: Any = None,
) -> TaskOptions | None:
    """Checked options of a submission; None when all are the defaults. Keywords win over ``annotations``
    (``dask.annotate``).
    """
    executor = None
    others = None
    if annotations:
        priority = priority or annotations.get("priority", 0)
        retries = retries if retries is not None else annotations.get("retries")
        workers = workers if workers is not None else annotations.get("workers")
        allow_other_workers = allow_other_workers or annotations.get("allow_other_workers", False)
        resources = resources if resources is not None else annotations.get("resources")
        executor = annotations.get("executor")
        timeout = timeout if timeout is not None else annotations.get("timeout")
        isolated = isolated if isolated is not None else annotations.get("isolated")
        max_restarts = max_restarts if max_restarts is not None or not actor else annotations.get("max_restarts")
        others = {name: value for name, value in annotations.items() if name not in _KNOWN_ANNOTATIONS} or None
    if others is not None:
        try:
            dumps_plain(others)
        except Exception as e:
            raise TypeError(f"annotations must be plain data, or at least what can be pickled: {e}") from e
    rules = make_rules(timeout, isolated, retries)
    n_restarts = make_max_restarts(max_restarts, bool(actor))
    if rules is not None and rules.isolated and (actor or executor is not None):
        raise ValueError("isolated= goes neither with actor= nor with the annotation executor")
    if priority is None:
        priority = 0
    if allow_other_workers is None:
        allow_other_workers = False
    if (
        priority == 0
        and not retries
        and workers is None
        and resources is None
        and allow_other_workers is False
        and not actor
        and executor is None
        and others is None
        and rules is None
    ):
        if retries is not None and retries is not False and not isinstance(retries, int):
            raise TypeError(f"retries= must be a whole number, not {retries!r}")
        return None
    if isinstance(priority, bool) or not isinstance(priority, Real):
        raise TypeError(f"priority= must be a number, not {priority!r}")
    if priority != priority:  # a task that is neither before nor after any other would spoil the order of all
        raise ValueError("priority= must be a number that can be ordered, not nan")
    if retries is None or retries is False:
        retries = 0
    if isinstance(retries, bool) or not hasattr(retries, "__index__"):
        raise TypeError(f"retries= must be a whole number, not {retries!r}")
    if retries < 0:
        raise ValueError(f"retries= must not be negative, got {retries}")
    if allow_other_workers not in (True, False):
        raise TypeError(f"allow_other_workers= takes True or False, not {allow_other_workers!r}")
    if executor is not None and not isinstance(executor, str):
        raise TypeError(f"the annotation executor must be the name of an executor, not {executor!r}")
    return TaskOptions(
        priority=max(LEAST, float(priority)),
        retries=int(retries),
        workers=worker_names(workers),
        allow_other_workers=bool(allow_other_workers),
        resources=_checked_resources(resources),
        actor=bool(actor),
        executor=executor,
        annotations=others,
        rules=rules,
        backoff=retries.backoff if type(retries) is Retry else None,
        max_restarts=n_restarts,
    )


def _checked_resources(resources: Any) -> dict[str, float] | None:
    if resources is None:
        return None
    if not isinstance(resources, Mapping):
        raise TypeError(f"resources= must be a dict such as {{'GPU': 1}}, not {resources!r}")
    checked = {}
    for name, amount in resources.items():
        if not isinstance(name, str):
            raise TypeError(f"resources= must have names as keys, not {name!r}")
        if isinstance(amount, bool) or not isinstance(amount, Real):
            raise TypeError(f"resources[{name!r}] must be a number, not {amount!r}")
        if not float(amount) >= 0:
            raise ValueError(f"resources[{name!r}] must not be negative, got {amount!r}")
        checked[name] = float(amount)
    return checked or None


def fifo_seconds(value: Any) -> float:
    """``fifo_timeout=`` in seconds."""
    if value == "100 ms":
        return 0.1
    parsed = settings.parse_timedelta(value)
    return float(parsed) if parsed is not None else 0.1
