from __future__ import annotations

import pytest

from distributed import Client
from tests.integration.client.fake_cluster import fake_cluster


@pytest.fixture(params=["tcp://127.0.0.1:0", "inproc://"], ids=["tcp", "inproc"])
def fake(request):
    with fake_cluster(request.param) as scheduler:
        yield scheduler


@pytest.fixture
def client(fake):
    with Client(fake.address) as client:
        yield client
