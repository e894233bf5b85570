"""The pages: each handler a few lines over a snapshot. Nothing here changes anything; all that is shown is escaped.

Strict headers on every answer: no inline script, no foreign asset, no guessing of content types, no framing by others.
"""

from __future__ import annotations

import html
import json
import math
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tornado.web import HTTPError, RequestHandler

from distributed.base.formatting import format_bytes
from distributed.http.snapshot import is_scheduler, snapshot
from distributed.scheduler import queries

STATIC = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class PageHandler(RequestHandler):
    """What all pages share: headers, the check of the Host header, errors without an echo of the request."""

    web: Any

    def initialize(self, web: Any) -> None:
        """``web``: the WebServer."""
        self.web = web

    @property
    def owner(self) -> Any:
        """The scheduler or worker that is shown."""
        return self.web.owner

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        """Refuse names that are not ours, and pages of other sites."""
        allowed = self.web.allowed_hosts
        if allowed is None:
            return
        if _host_of(self.request.host) not in allowed:
            raise HTTPError(403)
        origin = self.request.headers.get("Origin")
        if origin is not None and _host_of(urlsplit(origin).netloc) not in allowed:
            raise HTTPError(403)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code} {self._reason}\n")

    def send_json(self, value: Any) -> None:
        """Answer with JSON; what JSON cannot say becomes null or text."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(as_json(value)))

    def head(self, *args: Any, **kwargs: Any) -> Any:
        """What GET says, without its body."""
        return self.get(*args, **kwargs)


class NotFound(PageHandler):
    """Every other path."""

    def prepare(self) -> None:
        super().prepare()
        raise HTTPError(404)


class Redirect(PageHandler):
    """To a page of this server."""

    def initialize(self, web: Any, target: str = "/status") -> None:
        super().initialize(web)
        self.target = target

    def get(self) -> None:
        self.redirect(self.web.prefix + self.target)


class Health(PageHandler):
    """``ok`` while the event loop turns."""

    def get(self) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("ok")


class Status(PageHandler):
    """The live page; its script fetches ``json/status.json``."""

    def get(self) -> None:
        name = "scheduler.html" if is_scheduler(self.owner) else "worker.html"
        text = (STATIC / name).read_text(encoding="utf-8")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(text.replace("{{prefix}}", html.escape(self.web.prefix, quote=True)))


class StaticFile(PageHandler):
    """Scripts and styles, from a fixed list."""

    def get(self, name: str) -> None:
        # Only what is there, by whole name: no path of a request reaches the file system.
        for path in STATIC.iterdir():
            if path.name == name and path.suffix in (".js", ".css"):
                self.set_header("Content-Type", f"{_TYPES[path.suffix]}; charset=utf-8")
                self.finish(path.read_bytes())
                return
        raise HTTPError(404)


class StatusJSON(PageHandler):
    """What the live page shows."""

    def get(self) -> None:
        self.send_json(snapshot(self.owner))


class CountsJSON(PageHandler):
    """Numbers for programs."""

    def get(self) -> None:
        self.send_json(queries.counts(self.owner.state) | self.owner.shell.streams.counts())


class IdentityJSON(PageHandler):
    """The same as ``client.scheduler_info()``."""

    def get(self) -> None:
        self.send_json(self.owner.identity())


class IndexPage(PageHandler):
    """Links to pages of one kind."""

    def initialize(self, web: Any, title: str = "", links: tuple[str, ...] = ()) -> None:
        super().initialize(web)
        self.title = title
        self.links = links

    def get(self) -> None:
        rows = "".join(f'<li><a href="{_attribute(self.web.prefix + p)}">{html.escape(p)}</a></li>' for p in self.links)
        self.finish(page(self.web.prefix, self.title, f"<ul>{rows}</ul>"))


class Sitemap(PageHandler):
    """Every path, for programs."""

    def initialize(self, web: Any, paths: tuple[str, ...] = ()) -> None:
        super().initialize(web)
        self.paths = paths

    def get(self) -> None:
        self.send_json({"paths": list(self.paths)})


class NoPlots(PageHandler):
    """Names of single plots, for the JupyterLab extension: none without the full dashboard."""

    def get(self) -> None:
        self.send_json({})


class WorkersPage(PageHandler):
    """A table of the workers that needs no script."""

    def get(self) -> None:
        view = snapshot(self.owner)
        rows = [
            [
                w["name"],
                w["address"],
                w["status"],
                str(w["nthreads"]),
                f"{format_bytes(w['memory'])} / {format_bytes(w['memory_limit'])}",
                str(w["processing"]),
                str(w["in_memory"]),
                f"{w['last_seen_s']:.1f} s",
            ]
            for w in view["workers"]
        ]
        head = ["name", "address", "status", "threads", "memory", "processing", "in memory", "last seen"]
        summary = f"<p>{html.escape(view['address'])}: {view['counts']['tasks']} tasks, {len(rows)} workers</p>"
        self.finish(page(self.web.prefix, "Workers", summary + table(head, rows)))


class LogsPage(PageHandler):
    """The last lines of the scheduler's log."""

    def get(self) -> None:
        lines = "\n".join([html.escape(line) for _, line in self.owner.get_logs(200)])
        self.finish(page(self.web.prefix, "Log", f"<pre>{lines}</pre>"))


def page(prefix: str, title: str, body: str) -> str:
    """A plain page; ``body`` is escaped already."""
    safe = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{safe}</title>'
        f'<link rel="stylesheet" href="{_attribute(prefix)}/static/style.css"></head>'
        f"<body><main><h1>{safe}</h1>{body}</main></body></html>\n"
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table of texts, escaped here."""
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def as_json(value: Any, depth: int = 0) -> Any:
    """``value`` as what JSON can say: keys become text, infinities null, the rest text."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth > 20:
        return "..."
    if isinstance(value, dict):
        return {str(key): as_json(part, depth + 1) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json(part, depth + 1) for part in value]
    return str(value)


def _attribute(path: str) -> str:
    return html.escape(quote(path), quote=True)


def _host_of(netloc: str) -> str:
    """The name in ``name:port``, without brackets."""
    try:
        return (urlsplit(f"//{netloc}").hostname or "").lower()
    except ValueError:
        return ""
