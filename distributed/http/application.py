"""The table of routes, the gate before it, and tornado's server over it. Loaded when the first visitor comes."""

from __future__ import annotations

import logging
import re
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application

from distributed.base import settings
from distributed.comm.keys import OBSERVE
from distributed.comm.web_access import ACT
from distributed.http import handlers as h
from distributed.http.actions import ROUTES as ACTIONS
from distributed.http.gate import Gate
from distributed.http.metrics import Metrics
from distributed.http.snapshot import is_scheduler
from distributed.http.streams import MAX_BODY_BYTES, MAX_HEADER_BYTES

IDLE_S = 8.0
"""A silent visitor is shown out after so many seconds; the live page asks every second."""

_JSON = ("/json/counts.json", "/json/identity.json", "/json/status.json")
_INFO = ("/info/main/workers.html", "/info/main/logs.html")

Route = tuple[Any, ...]


def scheduler_routes() -> list[Route]:
    """``(path, handler, options)`` of a scheduler's pages; with the actions, where the settings name them."""
    named = settings.get("distributed.scheduler.http.routes", None) or ()
    return [
        *(ACTIONS if "distributed.http.scheduler.api" in named else ()),
        ("/json/counts.json", h.CountsJSON),
        ("/json/index.html", h.IndexPage, {"title": "Index of JSON routes", "links": _JSON}),
        ("/info", h.Redirect, {"target": _INFO[0]}),
        ("/info/main/workers.html", h.WorkersPage),
        ("/info/main/logs.html", h.LogsPage),
        ("/individual-plots.json", h.NoPlots),
        *common_routes(),
    ]


def common_routes() -> list[Route]:
    """Those that workers have too."""
    return [
        ("/", h.Redirect, {"target": "/status"}),
        ("/status", h.Status),
        ("/health", h.Health),
        ("/metrics", Metrics),
        ("/json/identity.json", h.IdentityJSON),
        ("/json/status.json", h.StatusJSON),
    ]


def for_programs(routes: list[Route]) -> list[Route]:
    """Those that are no dashboard: what ``dashboard=False`` leaves."""
    return [route for route in routes if route[0].startswith(("/health", "/json/", "/metrics", "/api"))]


class GatedApplication(Application):
    """Asks the gate before any handler is made, those of users and extensions included."""

    web: Any
    gate: Gate

    def find_handler(self, request: Any, **kwargs: Any) -> Any:
        found = super().find_handler(request, **kwargs)
        access = getattr(getattr(found, "handler_class", None), "access", OBSERVE)
        verdict = self.gate.judge(request, access)
        if verdict.status == 200:
            return found
        if verdict.status == 403 and access == ACT:
            self.web.audit(found.handler_class.__name__, request, "refused")
        return self.get_handler_delegate(request, h.Answer, {"web": self.web, "verdict": verdict})


def build(web: Any) -> HTTPServer:
    """A server for ``web`` (a WebServer), without a socket yet."""
    routes = scheduler_routes() if is_scheduler(web.owner) else common_routes()
    if not getattr(web.owner, "has_dashboard", True):
        routes = for_programs(routes)
    paths = tuple([route[0] for route in routes])
    prefix = re.escape(web.prefix)
    table: list[Any] = [
        (prefix + re.escape(path).rstrip("/") + "/?", handler, {"web": web, **(options[0] if options else {})})
        for path, handler, *options in routes
    ]
    table.append((prefix + "/sitemap\\.json", h.Sitemap, {"web": web, "paths": (*paths, "/sitemap.json")}))
    table.append((prefix + "/proxy(/.*)?", h.NoProxy, {"web": web}))
    table.append((prefix + "/static/([a-z]+\\.[a-z]+)", h.StaticFile, {"web": web}))
    table.extend(web.extra_routes)
    application = GatedApplication(
        table,
        default_handler_class=h.NotFound,
        default_handler_args={"web": web},
        log_function=_log,
        compress_response=True,
    )
    application.web, application.gate = web, Gate(web.owner, web.allowed_hosts)
    return HTTPServer(
        application,
        max_header_size=MAX_HEADER_BYTES,
        max_body_size=MAX_BODY_BYTES,
        max_buffer_size=2 * MAX_BODY_BYTES,
        idle_connection_timeout=IDLE_S,
        body_timeout=IDLE_S,
    )


def _log(handler: Any) -> None:
    """One line a request, at a level that nobody sees by default; no path, which is the visitor's text."""
    status = handler.get_status()
    level = logging.ERROR if status >= 500 else logging.DEBUG
    logging.getLogger("distributed.http").log(level, "%d in %.1f ms", status, 1000 * handler.request.request_time())
