"""What every link has: the first words after the handshake, and questions with answers."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from distributed.messages.amounts import Amount, Count, Nbytes
from distributed.messages.payload import ErrorInfo, Payload


class RegisterClient(Struct, tag="register-client", array_like=True, omit_defaults=True):
    """First message of a client. ``session``: the one that it goes on with (empty: a new one), in which it has taken in
    the scheduler's messages up to number ``applied``."""

    client: str
    versions: dict[str, Any] = {}
    name: str = ""
    session: str = ""
    applied: int = 0


class RegisterWorker(Struct, tag="register-worker", array_like=True, omit_defaults=True):
    """First message of a worker: everything that placement must know of it. ``session``: see RegisterClient."""

    address: str
    name: str
    host: str
    nthreads: Count
    memory_limit: Nbytes = 0
    resources: dict[str, Amount] = {}
    nanny: str | None = None
    pid: int = 0
    local_directory: str = ""
    services: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    name_is_int: bool = False
    session: str = ""
    applied: int = 0


class RegisterNanny(Struct, tag="register-nanny", array_like=True, omit_defaults=True):
    """First message of a nanny. ``session``: see :class:`RegisterClient`."""

    address: str
    name: str
    session: str = ""
    applied: int = 0


class Registered(Struct, tag="registered", array_like=True, omit_defaults=True):
    """The peer is in. ``plugins`` are pickles for workers and nannies, opened there.

    ``session``: the one that the peer asked for, which goes on, and in which its messages up to number ``applied`` have
    been taken in; or a new one. ``ended`` says then why the earlier one is over. ``grace_s``: how long a session
    outlives its connection.
    """

    scheduler: str
    scheduler_id: str
    heartbeat_interval_s: float = 1.0
    plugins: list[tuple[str, Payload]] = []
    warning: str = ""
    session: str = ""
    applied: int = 0
    ended: str = ""
    grace_s: float = 0.0


class Refused(Struct, tag="refused", array_like=True):
    """The peer may not come in, for ``reason``."""

    reason: str


class Request(Struct, tag="request", array_like=True, omit_defaults=True):
    """A question: ``op`` names the handler, ``body`` is its keyword arguments as plain data (``protocol.plain``)."""

    id: int
    op: str
    body: Payload


class Reply(Struct, tag="reply", array_like=True, omit_defaults=True):
    """The answer to the request of the same ``id``: a value, or an error."""

    id: int
    body: Payload | None = None
    error: ErrorInfo | None = None


class BatchHeader(Struct, tag="batch", array_like=True, omit_defaults=True):
    """Leads a batch of a session: the numbers of the ``count`` messages that follow begin with ``first``.

    ``applied``: the sender has taken in the peer's messages up to this number. ``ask``: say at once how far you are.
    """

    first: int
    count: int = 0
    applied: int = 0
    ask: bool = False


class Unsendable(Struct, tag="unsendable", array_like=True):
    """In the place of a numbered message that could not be encoded."""


class Applied(Struct, tag="applied", array_like=True, omit_defaults=True):
    """The sender has taken in ``number`` messages of the session. ``ask``: say at once how far you are."""

    number: int
    ask: bool = False


class SchedulerEnds(Struct, tag="scheduler-ends", array_like=True, omit_defaults=True):
    """To workers and nannies: the connection that closes now will not be opened again."""

    reason: str = ""


Control = (
    RegisterClient
    | RegisterWorker
    | RegisterNanny
    | Registered
    | Refused
    | Request
    | Reply
    | BatchHeader
    | Applied
    | SchedulerEnds
    | Unsendable
)
