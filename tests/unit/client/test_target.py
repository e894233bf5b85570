"""What a client reads from its arguments: where to go, or which cluster to make."""

from __future__ import annotations

from typing import Any

import dask
import pytest

from distributed.base import defaults
from distributed.client.target import Target


class Cluster:
    scheduler_address = "tcp://127.0.0.1:1"


@pytest.fixture(autouse=True)
def no_address_in_the_settings() -> Any:
    with dask.config.set({"scheduler-address": None}):
        yield


def test_one_of_four() -> None:
    cluster = Cluster()
    assert Target.of("tls://a:1", None, {}) == Target(address="tls://a:1")
    assert Target.of("a:1", None, {}) == Target(address="tcp://a:1")
    assert Target.of(cluster, None, {}) == Target(cluster=cluster)
    assert Target.of(None, "file.json", {}) == Target(scheduler_file="file.json")
    assert Target.of(None, None, {"n_workers": 2}) == Target(keywords={"n_workers": 2})
    assert Target.of("a:1", "file.json", {}) == Target(address="tcp://a:1"), "an address needs no file"


def test_settings() -> None:
    with dask.config.set({"scheduler-address": "b:2", "distributed.comm.default-scheme": "tls"}):
        assert Target.of(None, None, {}) == Target(address="tls://b:2")
        assert Target.of(None, "file.json", {}) == Target(scheduler_file="file.json")
        assert Target.of("a:1", None, {}) == Target(address="tls://a:1")


def test_what_is_wrong_is_told() -> None:
    with pytest.raises(TypeError, match="n_workers"):
        Target.of("a:1", None, {"n_workers": 2})
    with pytest.raises(TypeError, match="n_workers"):
        Target.of(None, "file.json", {"n_workers": 2})
    with pytest.raises(TypeError, match="cluster object"):
        Target.of(5, None, {})


def test_options_win_over_the_keywords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "load", lambda name: lambda **keywords: (name, keywords))
    target = Target.of(None, None, {"n_workers": 2, "security": "theirs"})
    assert target.make_cluster(None) == ("LocalCluster", {"n_workers": 2, "security": "theirs"})
    made = target.make_cluster("ours", asynchronous=True)
    assert made == ("LocalCluster", {"n_workers": 2, "security": "ours", "asynchronous": True})
