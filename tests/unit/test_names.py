"""Public names, old module addresses, and the cost of ``import distributed``."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import distributed
from distributed import _aliases


@pytest.mark.parametrize("name", distributed.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(distributed, name) is not None
    assert name in dir(distributed)


@pytest.mark.parametrize("path", _aliases.TABLE)
def test_every_old_address_answers(path: str) -> None:
    module = importlib.import_module(path)
    assert module is importlib.import_module(_aliases.TABLE[path])
    assert module.__spec__ is not None and module.__spec__.name == module.__name__


def test_dask_distributed_is_the_same_package() -> None:
    import dask.distributed
    import dask.distributed.client
    import dask.distributed.utils
    import distributed.utils

    import distributed.client

    assert dask.distributed.Client is distributed.Client
    assert dask.distributed.client is distributed.client
    assert dask.distributed.utils is distributed.utils


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Klient'"):
        _ = distributed.Klient
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("distributed.no_such_module")


def test_import_is_lazy() -> None:
    code = "import sys, distributed; print([m for m in ('dask', 'tornado', 'asyncio', 'msgspec') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
