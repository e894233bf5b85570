"""The names that other packages import, the table ``names.yaml``: there, of the right kind."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest
import yaml

import distributed

HERE = Path(__file__).parent
TABLE = yaml.safe_load((HERE / "names.yaml").read_text())
PAGE = (HERE.parents[2] / "docs" / "COMPATIBILITY.md").read_text()

KINDS = {
    "class": lambda v: inspect.isclass(v) and not issubclass(v, BaseException),
    "exception": lambda v: inspect.isclass(v) and issubclass(v, BaseException),
    "coroutine": inspect.iscoroutinefunction,
    "callable": lambda v: callable(v) and not inspect.isclass(v),
    "module": lambda v: isinstance(v, ModuleType),
    "value": lambda v: v is not None and not callable(v),
}
EXPECTED = [
    (module, name, kind)
    for module, kinds in TABLE["here"].items()
    for kind, names in kinds.items()
    for name in names.split()
]
ABSENT = [
    (module, name)
    for modules in TABLE["absent"].values()
    for module, names in modules.items()
    for name in names.split()
]


def load(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("module", "name", "kind"), EXPECTED, ids=lambda v: v)
def test_name(module: str, name: str, kind: str) -> None:
    assert KINDS[kind](load(module, name)), f"{module}.{name} is no {kind}"


@pytest.mark.parametrize("module", TABLE["here"])
def test_one_module_under_both_addresses(module: str) -> None:
    own = importlib.import_module(module)
    alias = importlib.import_module(f"dask.{module}")
    if module != "distributed":  # dask's own module of that name hands everything through
        assert alias is own
    assert own.__spec__ is not None


@pytest.mark.parametrize(("module", "name"), ABSENT, ids=lambda v: v)
def test_what_is_absent_is_absent_and_on_the_page(module: str, name: str) -> None:
    assert f"`{module}`" in PAGE and f"`{name}`" in PAGE, "docs/COMPATIBILITY.md does not tell"
    try:
        load(module, name)
    except (ImportError, AttributeError):
        return
    pytest.fail(f"{module}.{name} is there now: move it to `here` in names.yaml, and out of docs/COMPATIBILITY.md")


def test_aliases_come_in_any_order() -> None:
    """A submodule is the same under both addresses, whichever was asked for first."""
    code = (
        "import dask.distributed.protocol.pickle as a, distributed.protocol.pickle as b; assert a is b; "
        "import distributed.utils as c, dask.distributed.utils as d; assert c is d; "
        "from dask.distributed.client import Client as e; from distributed import Client as f; assert e is f; "
        "import distributed; assert distributed.utils is c; print('same')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "same", done.stderr


def test_an_old_address_does_not_hide_the_function_of_its_name() -> None:
    code = (
        "from distributed.worker_client import worker_client as a; from distributed import worker_client as b; "
        "import distributed; assert a is b is distributed.worker_client; print('same')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "same", done.stderr


def test_a_function_that_names_the_package_is_pickled() -> None:
    def ask() -> object:
        return distributed.Client

    assert cloudpickle.loads(cloudpickle.dumps(ask))() is distributed.Client


def test_utils_needs_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import distributed.utils as u; [getattr(u, n) for n in u.__all__]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
