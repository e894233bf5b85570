"""Web pages of a real scheduler, seen by a plain HTTP client."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import warnings

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.web import RequestHandler

from distributed.messages.scheduler_to_client import KeyInMemory
from distributed.scheduler import Scheduler
from tests.integration.comm.loops import on_both_loops, on_uvloop, until
from tests.integration.scheduler.peers import FakeClient, FakeWorker


def scheduler(**kwargs):
    return Scheduler(**{"dashboard_address": ":0", **kwargs})


async def get(s, path, **kwargs):
    """As a program with a token; ``headers`` may say otherwise."""
    client = AsyncHTTPClient(force_instance=True)
    kwargs["headers"] = {"Authorization": f"Bearer {s.secret.token('observe')}", **kwargs.get("headers", {})}
    try:
        return await client.fetch(
            f"http://127.0.0.1:{s.http_server.port}{path}", raise_error=False, follow_redirects=False, **kwargs
        )
    finally:
        client.close()


async def raw(port, data, timeout=15.0):
    """Send bytes, and return what comes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(timeout):
            try:
                return await reader.read()
            except ConnectionResetError:
                return b""
    finally:
        writer.close()


@on_both_loops
async def test_health_and_redirects():
    async with scheduler() as s:
        answer = await get(s, "/health")
        assert answer.code == 200
        assert answer.body == b"ok"
        answer = await get(s, "/")
        assert answer.code == 302
        assert answer.headers["Location"] == "status"
        assert (await get(s, "/info")).headers["Location"] == "info/main/workers.html"
        assert (await get(s, "/health", method="HEAD")).code == 200


@on_uvloop
async def test_no_dashboard_leaves_what_is_for_programs():
    async with scheduler(dashboard=False) as s:
        assert [(await get(s, path)).code for path in ("/health", "/json/counts.json")] == [200, 200]
        assert [(await get(s, path)).code for path in ("/", "/status", "/info/main/workers.html")] == [404] * 3


@on_uvloop
async def test_json():
    async with (
        scheduler() as s,
        FakeWorker(s, nthreads=2, info={"extra": {"nan": float("nan")}}) as w,
        FakeClient(s) as c,
    ):
        c.submit("x-1", "x-2")
        await until(lambda: len(c.of(KeyInMemory)) == 2)
        answer = await get(s, "/json/counts.json")
        assert answer.headers["Content-Type"].startswith("application/json")
        counts = json.loads(answer.body)
        assert counts["tasks"] == counts["memory"] == 2
        assert counts["workers"] == counts["clients"] == 1
        assert counts["sessions_resumed"] == counts["messages_resent"] == counts["messages_doubled"] == 0
        assert counts["cores"] == 2
        assert set(counts) >= {
            "bytes", "clients", "cores", "erred", "hosts", "idle", "memory", "processing", "released", "saturated",
            "tasks", "unrunnable", "waiting", "waiting_data", "workers", "desired_workers",
        }  # fmt: skip
        identity = json.loads((await get(s, "/json/identity.json")).body)
        assert identity["id"] == s.id
        assert identity["workers"][w.address]["nthreads"] == 2
        assert identity["workers"][w.address]["nan"] is None
        assert s.secret.reveal() not in str(identity)
        status = json.loads((await get(s, "/json/status.json")).body)
        assert status["tasks"]["memory"] == 2
        assert status["workers"][0]["address"] == w.address
        assert 0 <= status["workers"][0]["last_seen_s"] < 60
        assert status["workers"][0]["spilled"] == {"results": 0, "shuffles": 0}
        assert 0 <= status["uptime_s"] < 600
        assert status["groups"][0]["name"] == "x"
        assert b"/json/counts.json" in (await get(s, "/json/index.html")).body
        paths = json.loads((await get(s, "/sitemap.json")).body)["paths"]
        for path in paths:
            assert (await get(s, path)).code in (200, 302), path
        assert json.loads((await get(s, "/individual-plots.json")).body) == {}


@on_uvloop
async def test_status_page_needs_nothing_from_elsewhere():
    async with scheduler() as s:
        answer = await get(s, "/status")
        assert answer.code == 200
        text = answer.body.decode()
        assert "<script>" not in text
        assert " style=" not in text
        assert not re.search(r"\son\w+=", text)
        for path in re.findall(r'(?:src|href)="([^"]+)"', text):
            assert (await get(s, f"/{path}")).code in (200, 302), path
        script = await get(s, "/static/status.js")
        assert script.headers["Content-Type"].startswith("text/javascript")
        assert b"innerHTML" not in script.body


@on_uvloop
async def test_headers():
    async with scheduler() as s:
        for path in ("/status", "/health", "/json/counts.json", "/nowhere"):
            headers = (await get(s, path)).headers
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe-inline" not in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert "Server" not in headers
            assert "Set-Cookie" not in headers


@on_uvloop
async def test_what_is_shown_is_escaped():
    evil = "<script>alert(1)</script>"
    async with scheduler() as s, FakeWorker(s, name=evil):
        text = (await get(s, "/info/main/workers.html")).body.decode()
        assert evil not in text
        assert "&lt;script&gt;" in text
        logging.getLogger("distributed.scheduler").warning(evil)
        text = (await get(s, "/info/main/logs.html")).body.decode()
        assert evil not in text
        assert "&lt;script&gt;" in text
        answer = await get(s, "/nope/%3Cscript%3Ealert(1)%3C/script%3E?q=%3Cscript%3E")
        assert answer.code == 404
        assert b"script" not in answer.body


class TestAttacks:
    @on_uvloop
    async def test_name_of_another_site(self):
        """DNS rebinding: the browser thinks that it speaks to evil.example."""
        async with scheduler() as s:
            port = s.http_server.port
            for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
                for path in ("/json/identity.json", "/health", "/metrics"):
                    answer = await get(s, path, headers={"Host": host, "Authorization": ""})
                    assert answer.code in (400, 403), host
                    assert s.id.encode() not in answer.body
            for host in ("localhost", f"localhost:{port}", "127.0.0.1", f"[::1]:{port}"):
                assert (await get(s, "/health", headers={"Host": host})).code == 200, host

    @on_uvloop
    async def test_page_of_another_site(self):
        async with scheduler() as s:
            answer = await get(s, "/json/identity.json", headers={"Origin": "http://evil.example"})
            assert answer.code == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
            origin = f"http://127.0.0.1:{s.http_server.port}"
            assert (await get(s, "/health", headers={"Origin": origin})).code == 200

    @on_uvloop
    async def test_nothing_can_be_changed(self):
        async with scheduler() as s:
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                body = None if method == "DELETE" else b""
                assert (await get(s, "/status", method=method, body=body)).code == 405

    @pytest.mark.parametrize(
        "path", ["/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2fserver.py", "/static//etc/passwd"]
    )
    @on_uvloop
    async def test_traversal(self, path):
        async with scheduler() as s:
            bearer = f"Authorization: Bearer {s.secret.token('observe')}\r\n"
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}Connection: close\r\n\r\n".encode()
            answer = await raw(s.http_server.port, request)
            assert answer.startswith(b"HTTP/1.1 404")
            assert b"import" not in answer

    @on_uvloop
    async def test_bad_bytes(self):
        async with scheduler() as s:
            port = s.http_server.port
            junk = bytes(range(256)) * 4096
            assert b"200 OK" not in await raw(port, junk)
            answer = await raw(port, b"GET / HTTP/1.1\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 431 ")
            huge = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
            assert b"200 OK" not in await raw(port, huge)
            assert (await get(s, "/health")).code == 200

    @on_uvloop
    async def test_silent_visitor_is_shown_out(self, monkeypatch):
        from distributed.http import application

        monkeypatch.setattr(application, "IDLE_S", 0.1)
        async with scheduler() as s:
            assert (await get(s, "/health")).code == 200
            assert await raw(s.http_server.port, b"", timeout=5) == b""
            assert await raw(s.http_server.port, b"GET / HT", timeout=5) == b""
            assert (await get(s, "/health")).code == 200


class TestAddresses:
    @on_uvloop
    async def test_off_by_default(self):
        async with Scheduler() as s:
            assert s.http_server is None
            assert s.dashboard_link == ""
            assert s.identity()["services"] == {}

    @on_uvloop
    async def test_link_and_services(self):
        async with scheduler() as s:
            assert s.dashboard_link == f"http://127.0.0.1:{s.http_server.port}/status"
            assert s.identity()["services"] == {"dashboard": s.http_server.port}
            assert s.services["dashboard"].port == s.http_server.port

    @on_uvloop
    async def test_loopback_only(self):
        async with scheduler() as s:
            assert s.http_server.host == "127.0.0.1"

    @pytest.mark.parametrize("prefix", ["/foo", "foo", "/foo/"])
    @pytest.mark.parametrize("way", ["http_prefix", "service_kwargs"])
    @on_uvloop
    async def test_prefix(self, prefix, way):
        kwargs = (
            {"http_prefix": prefix} if way == "http_prefix" else {"service_kwargs": {"dashboard": {"prefix": prefix}}}
        )
        async with scheduler(**kwargs) as s:
            assert s.dashboard_link.endswith("/foo/status")
            answer = await get(s, "/foo/status")
            assert answer.code == 200
            assert b'src="static/status.js"' in answer.body
            assert (await get(s, "/foo/static/status.js")).code == 200
            assert (await get(s, "/foo/")).headers["Location"] == "status"
            assert (await get(s, "/foo")).headers["Location"] == "foo/status"
            assert (await get(s, "/foo/health")).code == 200
            assert (await get(s, "/status")).code == 404

    @on_uvloop
    async def test_port_taken(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.warns(UserWarning, match=f"Port {port} is already in use"):
                s = await scheduler(dashboard_address=f":{port}")
            try:
                assert s.http_server.port != port
                assert (await get(s, "/health")).code == 200
            finally:
                await s.close()

    @on_uvloop
    async def test_same_port_again(self):
        async with scheduler() as s:
            port = s.http_server.port
            assert (await get(s, "/health")).code == 200
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            async with scheduler(dashboard_address=f"127.0.0.1:{port}") as s:
                assert s.http_server.port == port

    @on_uvloop
    async def test_address_of_another_machine(self):
        with pytest.raises(RuntimeError, match=r"192\.0\.2\.1"):
            await scheduler(dashboard_address="192.0.2.1:0")

    @on_uvloop
    async def test_all_interfaces_allow_any_name(self):
        async with scheduler(dashboard_address="0.0.0.0:0") as s:
            assert (await get(s, "/health", headers={"Host": "node7.example"})).code == 200
            assert s.dashboard_link.startswith("http://127.0.0.1:")


@on_uvloop
async def test_ends_at_once_with_open_connections():
    async with scheduler() as s:
        reader, writer = await asyncio.open_connection("127.0.0.1", s.http_server.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in await reader.readline()
        port = s.http_server.port
        begin = asyncio.get_running_loop().time()
        await s.close()
        assert asyncio.get_running_loop().time() - begin < 2
        while await reader.read(1000):
            pass
        writer.close()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)


@on_uvloop
async def test_routes_of_extensions():
    class Hello(RequestHandler):
        def get(self):
            self.write("hello")

    async with scheduler() as s:
        s.http_server.extra_routes.append(("/hello", Hello))
        assert (await get(s, "/hello")).body == b"hello"
