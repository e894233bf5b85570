"""NumPy arrays as header and frame, for peers that open no pickle. Object arrays are left to pickle.

Also served as ``distributed.protocol.numpy``.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def serialize_numpy_ndarray(x: Any) -> tuple[dict[str, Any], list[Any]]:
    """``({"dtype", "shape", "order", "writeable"}, [bytes])``.

    Raises ``NotImplementedError`` for arrays of objects.
    """
    if x.dtype.hasobject:
        raise NotImplementedError("an array of objects")
    order = "F" if x.flags.f_contiguous and not x.flags.c_contiguous else "C"
    flat = x.ravel(order=order)
    descr = x.dtype.descr if x.dtype.names else x.dtype.str
    header = {"dtype": descr, "shape": x.shape, "order": order, "writeable": bool(x.flags.writeable)}
    return header, [memoryview(flat.view("u1") if flat.size else b"")]


def deserialize_numpy_ndarray(header: dict[str, Any], frames: list[Any]) -> Any:
    """The array; it shares memory with the frame where that is writable as the array was."""
    descr = header["dtype"]
    dtype = np.dtype(descr if isinstance(descr, str) else [tuple(field) for field in descr])
    content = np.frombuffer(frames[0], dtype=dtype) if frames[0].nbytes else np.empty(0, dtype)
    array = content.reshape(header["shape"], order=header["order"])
    if header["writeable"] and not array.flags.writeable:
        return array.copy(order="K")
    array.flags.writeable = header["writeable"]
    return array
