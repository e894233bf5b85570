"""User data as opaque payloads: the one face of everything that pickles. The scheduler uses ``pack_error`` of it
only."""

from __future__ import annotations

from distributed.base.errors import DeserializeError, RemoteError, SerializationError
from distributed.protocol.error_info import DEFAULT_ERROR_LENGTH, pack_error, unpack_error
from distributed.protocol.functions import dumps_function, function_name, loads_function
from distributed.protocol.payloads import TaskInput, TaskInputs, dumps, live, loads, materialised
from distributed.protocol.unpicklable import find_unpicklable

__all__ = [
    "DEFAULT_ERROR_LENGTH",
    "DeserializeError",
    "RemoteError",
    "SerializationError",
    "TaskInput",
    "TaskInputs",
    "dumps",
    "dumps_function",
    "find_unpicklable",
    "function_name",
    "live",
    "loads",
    "loads_function",
    "materialised",
    "pack_error",
    "unpack_error",
]
