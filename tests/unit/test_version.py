"""The version lets pip keep this package beside dask."""

from __future__ import annotations

import importlib.metadata

from packaging.requirements import Requirement

import distributed


def test_the_extra_of_dask_takes_this_version():
    wanted = [Requirement(line) for line in importlib.metadata.requires("dask") or ()]
    ours = [r for r in wanted if r.name == "distributed"]
    assert ours
    assert all(r.specifier.contains(distributed.__version__) for r in ours), (distributed.__version__, ours)
