"""Locks, semaphores, events, queues, variables and topics that clients and tasks of a cluster share by name.

Each primitive is one file: the handle that users hold, and the pure table at the scheduler. ``waiters``, ``leases`` and
``held_keys`` are what the tables share, ``tables`` is all of them together, ``extension`` their shell on the scheduler,
``link`` the way from a handle to it.
"""

from __future__ import annotations

from distributed.base.lazy import lazy_names

_HOMES = {
    "Event": "distributed.coordination.event",
    "Lock": "distributed.coordination.lock",
    "MultiLock": "distributed.coordination.multi_lock",
    "Pub": "distributed.coordination.pubsub",
    "Queue": "distributed.coordination.queues",
    "Semaphore": "distributed.coordination.semaphore",
    "Sub": "distributed.coordination.pubsub",
    "Variable": "distributed.coordination.variable",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
