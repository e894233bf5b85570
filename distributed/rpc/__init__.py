"""Connections between programs: questions with answers and streams of messages over one link; servers; loops and
threads.

This room bears the name of a public class: ``from distributed import rpc; rpc(address)``. So the module can be called,
and means :class:`distributed.rpc.pool.rpc` then.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return importlib.import_module("distributed.rpc.pool").rpc(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
