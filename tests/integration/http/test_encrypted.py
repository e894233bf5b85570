"""Web pages over TLS, where the settings name a certificate: links say so, signing in works as in clear."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import dask
import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from distributed import Client
from distributed.base import settings
from distributed.comm.certificates import self_signed
from distributed.scheduler import Scheduler
from distributed.worker import Worker
from tests.integration.comm.loops import on_uvloop

PREFIX = "distributed.scheduler.dashboard.tls"


@pytest.fixture(params=["files", "text"])
def encrypted(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The settings, and what a visitor trusts."""
    settings.register()
    cert, key = self_signed()
    given = [cert, key]
    if request.param == "files":
        for i, name in enumerate(("cert.pem", "key.pem")):
            (tmp_path / name).write_text(given[i])
            given[i] = str(tmp_path / name)
    trust = ssl.create_default_context(cadata=cert)
    trust.check_hostname = False
    with dask.config.set({f"{PREFIX}.cert": given[0], f"{PREFIX}.key": given[1]}):
        yield trust


async def fetch(url: str, trust: ssl.SSLContext, **headers: str) -> HTTPResponse:
    client = AsyncHTTPClient(force_instance=True)
    try:
        return await client.fetch(url, headers=headers, ssl_options=trust, raise_error=False, follow_redirects=False)
    finally:
        client.close()


def test_pages(encrypted: ssl.SSLContext) -> None:
    """Of a scheduler and a worker."""

    @on_uvloop
    async def test() -> None:
        async with Scheduler(dashboard_address=":0", port=0) as s, Worker(s.address, dashboard_address=":0") as w:
            for server in (s, w):
                assert server.http_server.link.startswith("https://127.0.0.1:")
                url = server.http_server.link.replace("/status", "/json/identity.json")
                assert (await fetch(url, encrypted)).code == 401
                assert (await fetch(url.replace("json/identity.json", "health"), encrypted)).body == b"ok"
            async with Client(s.address, asynchronous=True, set_as_default=False) as c:
                link = str(c.dashboard_link)
                assert link.startswith(s.dashboard_link + "?dask-token=")
                answer = await fetch(link, encrypted, Accept="text/html")
                assert answer.code == 303
                cookie = answer.headers["Set-Cookie"]
                assert cookie.endswith("; Secure")
                status = await fetch(s.dashboard_link, encrypted, Cookie=cookie.partition(";")[0], Origin=origin(s))
                assert status.code == 200 and b"<html" in status.body
                token = {"Authorization": f"Bearer {c.web_token()}"}
                counts = await fetch(s.dashboard_link.replace("/status", "/json/counts.json"), encrypted, **token)
                assert counts.code == 200 and b'"workers": 1' in counts.body

    test()


def origin(server: Any) -> str:
    return str(server.dashboard_link.removesuffix("/status"))


def test_who_speaks_in_clear_learns_nothing(encrypted: ssl.SSLContext) -> None:
    @on_uvloop
    async def test() -> None:
        async with Scheduler(dashboard_address=":0", port=0) as s:
            reader, writer = await asyncio.open_connection("127.0.0.1", s.http_server.port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            said = b""
            try:
                said = await asyncio.wait_for(reader.read(), 10)
            except ConnectionError:
                pass
            assert b"HTTP" not in said
            writer.close()
            assert (await fetch(s.dashboard_link.replace("/status", "/health"), encrypted)).body == b"ok"

    test()


@pytest.mark.parametrize(
    "given, told",
    [
        ({"cert": "/nowhere.pem", "key": "/nowhere.key"}, r"dashboard\.tls\.cert.*/nowhere\.pem.*No such file"),
        ({"cert": "a\nb", "key": "c\nd"}, r"dashboard\.tls\.cert and \.key must be a certificate"),
        ({"key": "/nowhere.key"}, r"a key and no cert"),
    ],
)
def test_what_is_no_certificate(given: dict[str, str], told: str) -> None:
    """Told at the start, by the name of the setting; nothing of a key is in the text."""

    @on_uvloop
    async def test() -> None:
        with pytest.raises((ValueError, RuntimeError), match=told):
            async with Scheduler(dashboard_address=":0", port=0):
                pass

    settings.register()
    with dask.config.set({f"{PREFIX}.{name}": value for name, value in given.items()}):
        test()
