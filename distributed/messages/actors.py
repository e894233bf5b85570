"""Client to worker and back: calls of actors, past the scheduler."""

from __future__ import annotations

from msgspec import Struct

from distributed.base.keys import Key
from distributed.messages.payload import ErrorInfo, Payload


class ActorCall(Struct, tag="actor-call", array_like=True, omit_defaults=True):
    """Call the method ``name`` of an actor with ``arguments``, a pickle of ``(args, kwargs)``; without them read the
    attribute of that name. ``number`` is the caller's own, on this connection."""

    number: int
    actor: Key
    name: str
    arguments: Payload | None = None


class ActorAnswer(Struct, tag="actor-answer", array_like=True, omit_defaults=True):
    """What the call of the same ``number`` has returned (nothing: None), or raised. ``keys``: of futures in the value,
    to be claimed before it is opened."""

    number: int
    value: Payload | None = None
    error: ErrorInfo | None = None
    keys: tuple[Key, ...] = ()


class ActorClaimed(Struct, tag="actor-claimed", array_like=True):
    """The scheduler knows that the caller holds the futures in the answer of this ``number``: the actor's side need not
    any more. Follows every answer with ``keys``, and has no answer."""

    number: int
