"""Which data a peer-to-peer shuffle of dataframes takes; known to dask under this address."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


def check_minimal_arrow_version() -> None:
    """Raise ``ModuleNotFoundError`` with advice when pyarrow is missing."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ModuleNotFoundError(
            "peer-to-peer shuffles of dataframes need the package 'pyarrow' on the client and on all workers: install "
            'it, or choose another method (dask.config.set({"dataframe.shuffle.method": "tasks"}))',
            name="pyarrow",
        )


def check_dtype_support(meta: Any) -> None:
    """Raise ``TypeError`` for a frame with complex numbers, for which Arrow has no type.

    Parameters
    ----------
    meta
        An empty dataframe with the types in question.
    """
    check_minimal_arrow_version()
    for i, dtype in enumerate(meta.dtypes):
        if getattr(dtype, "kind", "") == "c":
            raise TypeError(
                f"p2p does not support data of type '{dtype}' (column {meta.columns[i]!r}); "
                'use shuffle_method="tasks"'
            )
