"""Who may see which page of a real scheduler: links that sign a browser in once, cookies, bearer tokens, strangers."""

from __future__ import annotations

import json
import re
import time
from typing import Any
from urllib.parse import urljoin, urlsplit

import dask
import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.web import RequestHandler

from distributed import Client, Security
from distributed.base.errors import HandshakeRefused
from distributed.comm import connect, secrets, web_access
from distributed.comm.addressing import get_ip
from distributed.comm.keys import OPEN, Secret
from distributed.scheduler import Scheduler
from distributed.worker import Worker
from tests.integration.comm.loops import on_uvloop, until

PAGES = ("/status", "/json/counts.json", "/json/identity.json", "/json/status.json", "/info/main/workers.html", "/")


async def fetch(url: str, method: str = "GET", body: Any = None, **headers: str) -> HTTPResponse:
    client = AsyncHTTPClient(force_instance=True)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        return await client.fetch(
            url, method=method, body=body, headers=named, raise_error=False, follow_redirects=False
        )
    finally:
        client.close()


def at(server: Any, path: str) -> str:
    return f"http://127.0.0.1:{server.http_server.port}{path}"


class Browser:
    """Keeps cookies as a browser does: by host and folder, not by port."""

    def __init__(self) -> None:
        self.jar: dict[tuple[str, str], str] = {}

    async def go(self, url: str, **headers: str) -> HTTPResponse:
        for _ in range(5):
            place = urlsplit(url)
            sent = [pair for (host, path), pair in self.jar.items() if self._fits(host, path, place)]
            named = {"Accept": "text/html,*/*;q=0.8", **({"Cookie": "; ".join(sent)} if sent else {}), **headers}
            answer = await fetch(url, **named)
            for line in answer.headers.get_list("Set-Cookie"):
                assert "HttpOnly" in line and "SameSite=Strict" in line and "Path" not in line
                self.jar[place.hostname or "", place.path.rpartition("/")[0] or "/"] = line.partition(";")[0]
            if answer.code not in (302, 303):
                return answer
            url = urljoin(url, answer.headers["Location"])
        raise AssertionError("redirected in a circle")

    @staticmethod
    def _fits(host: str, path: str, place: Any) -> bool:
        return host == place.hostname and (place.path + "/").startswith(path.rstrip("/") + "/")


@on_uvloop
async def test_a_stranger_is_asked_to_sign_in() -> None:
    async with Scheduler(dashboard_address=":0") as s:
        for path in (*PAGES, "/static/status.js", "/nowhere", "/sitemap.json"):
            answer = await fetch(at(s, path))
            assert answer.code == 401, path
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert b"client.dashboard_link" in answer.body and b"client.web_token" in answer.body
            assert s.id.encode() not in answer.body and b"<" not in answer.body
        answer = await Browser().go(at(s, "/nope/%3Cscript%3Ealert(1)%3C/script%3E?q=%3Cscript%3E"))
        assert answer.code == 401 and b"Sign in" in answer.body and b"script" not in answer.body
        assert (await fetch(at(s, "/health"))).body == b"ok"
        assert (await fetch(at(s, "/individual-plots.json"))).code == 200


@on_uvloop
async def test_one_link_signs_one_browser_in(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Scheduler(dashboard_address=":0") as s, Client(s.address, asynchronous=True) as client:
        link = client.dashboard_link
        assert link.startswith(at(s, "/status?dask-token="))
        browser = Browser()
        answer = await browser.go(link)
        assert answer.code == 200 and b"<title>Status" in answer.body
        assert "token" not in answer.effective_url and len(browser.jar) == 1
        for path in (*PAGES, "/static/status.js"):
            assert (await browser.go(at(s, path))).code == 200, path
        assert (await browser.go(link)).code == 200  # the same browser may, it is signed in
        assert client.dashboard_link == link  # others compare links
        assert (await Browser().go(link)).code == 200  # shortly afterwards: the browser may have looked ahead
        monkeypatch.setattr(web_access, "GOOD_AGAIN_S", 0)
        monkeypatch.setattr(web_access, "SAME_LINK_S", 0)
        assert (await Browser().go(link)).code == 401
        assert client.dashboard_link != link
        assert (await Browser().go(client.dashboard_link)).code == 200


@on_uvloop
async def test_programs_read_by_a_fresh_link_and_by_a_bearer_token() -> None:
    async with Scheduler(dashboard_address=":0") as s, Client(s.address, asynchronous=True) as client:
        answer = await fetch(client.dashboard_link.replace("/status", "/json/counts.json"))
        assert answer.code == 200 and "Set-Cookie" not in answer.headers
        token = client.web_token()
        for path in (*PAGES, "/static/status.js"):
            assert (await fetch(at(s, path), Authorization=f"Bearer {token}")).code in (200, 302), path
        for wrong in ("", "Bearer", "Bearer x", f"Basic {token}", f"Bearer {token}0", f"Bearer {s.secret.reveal()}"):
            assert (await fetch(at(s, "/status"), Authorization=wrong)).code == 401
        other = Secret.new().token("observe")
        assert (await fetch(at(s, "/status"), Authorization=f"Bearer {other}")).code == 401
        with pytest.raises(ValueError, match="no purpose 'root'"):
            client.web_token("root")


@on_uvloop
async def test_forged_and_old_links_and_cookies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_access, "GOOD_AGAIN_S", 0)
    async with Scheduler(dashboard_address=":0") as s:
        now, nonce = time.time(), bytes(11)
        codes = {
            "of another cluster": web_access.new_code(Secret.new(), s.id, now, nonce),
            "of another server": web_access.new_code(s.secret, "Scheduler-elsewhere", now, nonce),
            "too old": web_access.new_code(s.secret, s.id, now - web_access.CODE_AGE_S - 5, nonce),
            "of the future": web_access.new_code(s.secret, s.id, now + web_access.CODE_AGE_S + 5, nonce),
            "empty": "",
            "no code": "\u00e9!%00",
            "long": "A" * 4000,
        }
        for what, code in codes.items():
            assert (await Browser().go(at(s, f"/status?dask-token={code}".replace("\u00e9", "%C3%A9")))).code == 401, (
                what
            )
        good = web_access.new_code(s.secret, s.id, now, nonce)
        assert (await fetch(at(s, f"/status?dask-token={good}"))).code == 200
        for again in (good, good + "=", good[:10] + "!" + good[10:], good + "%0A"):
            assert (await fetch(at(s, f"/status?dask-token={again}"))).code == 401, again
        name = web_access.cookie_name(s.secret)
        cookie = web_access.new_cookie(s.secret, now)
        until, _, mac = cookie.partition(".")
        old = web_access.new_cookie(s.secret, now - web_access.COOKIE_AGE_S - 5)
        for value in (old, f"{int(until, 16) + 1:x}.{mac}", f"x.{mac}", ".", "", f"{until}.", mac):
            assert (await fetch(at(s, "/status"), Cookie=f"{name}={value}")).code == 401, value
        assert (await fetch(at(s, "/status"), Cookie=f"{name}={cookie}")).code == 200
        assert (await fetch(at(s, "/status"), Cookie=f"other={cookie}")).code == 401


@on_uvloop
async def test_origin_and_host() -> None:
    """A page of another site (or of another port of this machine) that has the browser ask, with its cookies."""
    async with Scheduler(dashboard_address=":0") as s:
        port = s.http_server.port
        cookie = f"{web_access.cookie_name(s.secret)}={web_access.new_cookie(s.secret, time.time())}"
        for origin in ("http://evil.example", "http://127.0.0.1:1", "null", "http://[", ""):
            answer = await fetch(at(s, "/json/identity.json"), Origin=origin, Cookie=cookie)
            assert answer.code == 403 and s.id.encode() not in answer.body, origin
            assert "Access-Control-Allow-Origin" not in answer.headers
        same = f"http://127.0.0.1:{port}"
        assert (await fetch(at(s, "/json/identity.json"), Origin=same, Cookie=cookie)).code == 200
        # A proxy keeps the name that the browser knows: who has signed in there is no victim of a changed name.
        assert (await fetch(at(s, "/status"), Host="hub.example")).code == 403
        assert (await fetch(at(s, "/status"), Host="hub.example", Cookie=cookie)).code == 200


@on_uvloop
async def test_behind_a_proxy_that_gives_a_folder() -> None:
    """What the browser sees is /user/me/proxy/8787/status: links and the cookie are for that folder."""
    async with Scheduler(dashboard_address=":0") as s, Client(s.address, asynchronous=True) as client:
        folder = "/user/me/proxy/8787"

        async def through(url: str, browser: dict[str, str]) -> HTTPResponse:
            path = url.removeprefix("http://hub.example")
            assert path.startswith(folder)
            answer = await fetch(at(s, path.removeprefix(folder)), Host="hub.example", Accept="text/html", **browser)
            for line in answer.headers.get_list("Set-Cookie"):
                assert "Path" not in line
                browser["Cookie"] = line.partition(";")[0]
            return answer

        query = urlsplit(client.dashboard_link).query
        browser: dict[str, str] = {}
        url = f"http://hub.example{folder}/status?{query}"
        answer = await through(url, browser)
        assert answer.code == 303 and browser
        url = urljoin(url, answer.headers["Location"])
        answer = await through(url, browser)
        assert answer.code == 200
        for link in re.findall(r'(?:src|href)="([^"]+)"', answer.body.decode()):
            assert (await through(urljoin(url, link), browser)).code == 200, link
            for further in re.findall(rb'href="([^"]+)"', (await through(urljoin(url, link), browser)).body):
                assert (await through(urljoin(urljoin(url, link), further.decode()), browser)).code == 200
        assert (await through(f"http://hub.example{folder}/", browser)).headers["Location"] == "status"


@on_uvloop
async def test_a_workers_pages_take_the_schedulers_cookie() -> None:
    async with Scheduler(dashboard_address=":0") as s, Worker(s.address, dashboard_address=":0") as w:
        browser = Browser()
        assert (await browser.go(at(w, "/status"))).code == 401
        assert (await browser.go(s.http_server.sign_in_link)).code == 200
        assert (await browser.go(at(w, "/status"))).code == 200
        assert (await fetch(at(w, "/health"))).code == 200


@on_uvloop
async def test_a_cluster_with_certificates() -> None:
    """Its members need no secret; its pages do, and clients are told what they need for them."""
    security = Security.temporary()
    async with Scheduler(dashboard_address=":0", security=security, protocol="tls") as s:
        async with Client(s.address, security=security, asynchronous=True) as client:
            secrets.forget(s.address)  # as in another process
            assert (await Browser().go(client.dashboard_link)).code == 200
            assert (await fetch(at(s, "/status"), Authorization=f"Bearer {client.web_token()}")).code == 200
            with pytest.raises(PermissionError, match="does not have the key"):
                client.web_token("client")


@on_uvloop
async def test_rotation() -> None:
    async with Scheduler(dashboard_address=":0") as s, Client(s.address, asynchronous=True) as client:
        browser, old = Browser(), client.web_token()
        assert (await browser.go(client.dashboard_link)).code == 200
        await s.rotate_secret("30s")
        assert (await browser.go(at(s, "/status"))).code == 200
        assert (await fetch(at(s, "/status"), Authorization=f"Bearer {old}")).code == 200
        await s.rotate_secret("0s")
        await until(lambda: len(s.good_secrets) == 1)
        assert (await browser.go(at(s, "/status"))).code == 401
        assert (await fetch(at(s, "/status"), Authorization=f"Bearer {old}")).code == 401
        assert (await browser.go(s.http_server.sign_in_link)).code == 200


@on_uvloop
async def test_routes_of_others_are_behind_the_gate() -> None:
    class Hello(RequestHandler):
        def get(self) -> None:
            self.write("hello")

    class OpenHello(Hello):
        access = "anybody"

    async with Scheduler(dashboard_address=":0") as s:
        s.http_server.extra_routes += [("/hello", Hello), ("/open", OpenHello)]
        assert (await fetch(at(s, "/hello"))).code == 401
        assert (await fetch(at(s, "/hello"), Authorization=f"Bearer {s.secret.token('observe')}")).body == b"hello"
        assert (await fetch(at(s, "/open"))).body == b"hello"


@on_uvloop
async def test_opened_by_one_setting() -> None:
    async with Scheduler(dashboard_address=":0") as s:
        with dask.config.set({"distributed.auth.pages": False}):
            for path in PAGES:
                assert (await fetch(at(s, path))).code in (200, 302), path
            assert (await fetch(at(s, "/status"), Host="evil.example")).code == 403
            assert (await fetch(at(s, "/status"), Origin="http://evil.example")).code == 403
        assert (await fetch(at(s, "/status"))).code == 401


@on_uvloop
async def test_without_authentication() -> None:
    with dask.config.set({"distributed.auth.required": False}):
        async with Scheduler(dashboard_address=":0") as s, Client(s.address, asynchronous=True) as client:
            assert s.secret == OPEN and client.web_token() == ""
            assert client.dashboard_link == at(s, "/status")
            assert (await fetch(client.dashboard_link)).code == 200
        with pytest.raises(RuntimeError, match="insecure-listen"):
            await Scheduler(dashboard_address="0.0.0.0:0")


@on_uvloop
async def test_metrics_by_bearer_or_loopback() -> None:
    async with (
        Scheduler(dashboard_address="0.0.0.0:0") as s,
        Worker(s.address, dashboard_address=":0", nthreads=1) as w,
    ):
        elsewhere = f"http://{get_ip()}:{s.http_server.port}/metrics"
        assert (await fetch(elsewhere)).code == 401
        for purpose in ("metrics", "observe"):
            answer = await fetch(elsewhere, Authorization=f"Bearer {s.secret.token(purpose)}")
            assert answer.code == 200, purpose
        text = answer.body.decode()
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "dask_scheduler_clients 0\n" in text and 'dask_scheduler_tasks{state="memory"} 0\n' in text
        for line in text.splitlines():
            assert re.fullmatch(r"# (HELP|TYPE) .*|[a-z_]+(\{\w+=\"[\w-]+\"\})? [0-9.e+-]+", line), line
        for server, name in ((s, "dask_scheduler_threads 1\n"), (w, "dask_worker_threads 1\n")):
            assert name in (await fetch(at(server, "/metrics"))).body.decode()
        # A token of a program that collects numbers does not open pages; a changed host name is not of this machine.
        for path in PAGES:
            assert (await fetch(at(s, path), Authorization=f"Bearer {s.secret.token('metrics')}")).code == 403
        assert (await fetch(at(s, "/metrics"), Host="evil.example")).code == 401


ROUTES = {"distributed.scheduler.http.routes": ["distributed.http.scheduler.api"]}


@on_uvloop
async def test_c4_13_who_looks_does_not_act() -> None:
    """By cookie or token of an observer: refused, noted, nothing changed. By the token of a client: done, noted."""
    with dask.config.set(ROUTES):
        async with Scheduler(dashboard_address=":0") as s, Worker(s.address, nthreads=1) as w:
            browser = Browser()
            assert (await browser.go(s.http_server.sign_in_link)).code == 200
            cookie = {"Cookie": next(iter(browser.jar.values()))}
            tokens = [{"Authorization": f"Bearer {s.secret.token(name)}"} for name in ("observe", "metrics")]
            url, body = at(s, "/api/v1/retire_workers"), json.dumps({"workers": [w.address]})
            for shown in (cookie, *tokens):
                assert (await fetch(url, "POST", body, **shown)).code == 403
            with dask.config.set({"distributed.auth.pages": False}):
                assert (await fetch(url, "POST", body)).code == 401
            assert list(s.workers) == [w.address]
            events = [event for _, event in s.get_events("audit")]
            assert [e["outcome"] for e in events] == ["refused"] * 3
            assert events[0] == {
                "action": "RetireWorkers", "role": "web", "peer": "http://127.0.0.1", "outcome": "refused"
            }  # fmt: skip
            act = {"Authorization": f"Bearer {s.secret.token('client')}"}
            for bad in ("", "[]", '{"n": -1}', '{"n": true}', '{"x": 1}', "{}", '{"n": 1, "workers": []}', "[" * 60000):
                assert (await fetch(url, "POST", bad, **act)).code == 400, bad
            assert (await fetch(at(s, "/api/v1/get_workers"), **act)).code == 200
            assert json.loads((await fetch(at(s, "/api/v1/adaptive_target"), **act)).body) == {"workers": 0}
            assert (await fetch(url, "POST", body, **act)).code == 200
            await until(lambda: not s.workers)
            assert s.get_events("audit")[-1][1]["outcome"] == "done"
    async with Scheduler(dashboard_address=":0") as s:
        assert (await fetch(at(s, "/api/v1"), Authorization=f"Bearer {s.secret.token('client')}")).code == 404


@on_uvloop
async def test_c4_13_keys_of_an_observer_open_no_connection() -> None:
    async with Scheduler() as s:
        keys = s.secret.limited_to("observe")
        for role in ("client", "worker", "nanny", "scheduler", "task"):
            with pytest.raises(HandshakeRefused, match="keys of an observe"):
                await connect(s.address, 5, role=role, secret=keys, shortcuts=False)
        with pytest.raises(HandshakeRefused):
            await connect(s.address, 5, secret=Secret.from_text(s.secret.token("observe")), shortcuts=False)


@on_uvloop
async def test_no_proxy_to_whoever_a_visitor_names() -> None:
    async with Scheduler(dashboard_address=":0") as s:
        token = {"Authorization": f"Bearer {s.secret.token('observe')}"}
        for path in ("/proxy/22/evil.example/x", "/proxy/80/169.254.169.254/latest", "/proxy"):
            assert (await fetch(at(s, path), **token)).code == 403
