"""Web pages of a worker."""

from __future__ import annotations

import json

from tornado.httpclient import AsyncHTTPClient

from distributed.scheduler import Scheduler
from distributed.worker import Worker
from tests.integration.comm.loops import on_uvloop


@on_uvloop
async def test_worker_page():
    async with Scheduler() as s, Worker(s.address, dashboard_address=":0", dashboard=True, nthreads=1) as w:
        port = s.workers[w.address].services["dashboard"]
        headers = {"Authorization": f"Bearer {s.secret.token('observe')}"}
        client = AsyncHTTPClient(force_instance=True)
        try:
            for path in ("/health", "/status", "/static/status.js"):
                assert (await client.fetch(f"http://127.0.0.1:{port}{path}", headers=headers)).code == 200
            page = await client.fetch(f"http://127.0.0.1:{port}/status", headers=headers)
            assert b"Worker" in page.body
            status = json.loads((await client.fetch(f"http://127.0.0.1:{port}/json/status.json", headers=headers)).body)
            assert status["kind"] == "worker"
            assert status["address"] == w.address
            assert status["nthreads"] == 1
            identity = await client.fetch(f"http://127.0.0.1:{port}/json/identity.json", headers=headers)
            assert json.loads(identity.body)["type"] == "Worker"
        finally:
            client.close()
