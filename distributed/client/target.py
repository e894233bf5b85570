"""What a client was told to connect to. Shell: reads settings, and makes the cluster that nobody else has made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from distributed.base import defaults, settings


@dataclass(frozen=True)
class Target:
    """One of these is given, the others are None: the scheduler's ``address``, a ``cluster`` object, the
    ``scheduler_file`` that will hold the address, the ``keywords`` of a cluster that is to be made.
    """

    address: str | None = None
    cluster: Any = None
    scheduler_file: Any = None
    keywords: dict[str, Any] | None = None

    @classmethod
    def of(cls, address: Any, scheduler_file: Any, keywords: dict[str, Any]) -> Self:
        """Of a client's arguments: ``address`` is that or a cluster, ``keywords`` are those that it does not know."""
        if address is None and scheduler_file is None:
            address = settings.get("scheduler-address", None) or None
        if address is None and scheduler_file is None:
            return cls(keywords=dict(keywords))
        if keywords:
            raise TypeError(
                f"Client() got unexpected keyword arguments: {sorted(keywords)} "
                "(with an address no LocalCluster is started, which would take them)"
            )
        if address is None:
            return cls(scheduler_file=scheduler_file)
        if isinstance(address, str):
            scheme = settings.get("distributed.comm.default-scheme", "tcp")
            return cls(address=address if "://" in address else f"{scheme}://{address}")
        if hasattr(address, "scheduler_address"):
            return cls(cluster=address)
        raise TypeError(f"a scheduler is found by the text of its address or a cluster object, not by {address!r}")

    def make_cluster(self, security: Any, **options: Any) -> Any:
        """The cluster that the keywords describe; ``options`` win over them."""
        given = {} if security is None else {"security": security}
        return defaults.load("LocalCluster")(**{**(self.keywords or {}), **given, **options})
