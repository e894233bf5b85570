"""The pages: each handler a few lines over a snapshot. Nothing here changes anything; all that is shown is escaped.

Who may see a page is told by its ``access`` and decided by :mod:`distributed.http.gate`, before the handler is made.
Strict headers on every answer: no inline script, no foreign asset, no guessing of content types, no framing by others.
Links are relative, so that pages work behind any proxy that gives them a folder.
"""

from __future__ import annotations

import html
import json
import math
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tornado.web import HTTPError, RequestHandler

from distributed.base.formatting import format_bytes
from distributed.comm.keys import OBSERVE
from distributed.comm.web_access import IN_LINKS
from distributed.http.gate import ANYBODY, Verdict, wants_page
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
    """What all pages share: headers, relative links, errors without an echo of the request."""

    web: Any
    access = OBSERVE

    def initialize(self, web: Any) -> None:
        """``web``: the WebServer."""
        self.web = web

    @property
    def owner(self) -> Any:
        """The scheduler or worker that is shown."""
        return self.web.owner

    @property
    def root(self) -> str:
        """The way from this page to the folder of all pages: ``""`` or ``"../../"``."""
        depth = self.request.path[len(self.web.prefix) :].count("/")
        return "../" * (depth - 1) if depth else f"{self.web.prefix.rpartition('/')[2]}/"

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in HEADERS.items():
            self.set_header(name, value)

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


class Answer(PageHandler):
    """What the gate says instead of a page: sign in by a link, or the way back without the token in the address."""

    access = ANYBODY

    def initialize(self, web: Any, verdict: Verdict | None = None) -> None:
        super().initialize(web)
        self.verdict = verdict or Verdict(403)

    def prepare(self) -> None:
        verdict = self.verdict
        if verdict.sign_in is not None:
            name, value = verdict.sign_in
            # Without a path a cookie is for the folder that the browser sees, whatever a proxy has made of it.
            secure = "; Secure" if self.web.tls is not None else ""
            self.add_header("Set-Cookie", f"{name}={value}; HttpOnly; SameSite=Strict{secure}")
            self.set_status(303)
            self.set_header("Location", self._without_token())
            self.finish()
            return
        self.set_status(verdict.status)
        if verdict.status != 401:
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(f"{verdict.status} Forbidden: {verdict.reason}\n")
            return
        self.set_header("WWW-Authenticate", "Bearer")
        if wants_page(self.request):
            self.finish(page("Sign in", f"<p>{html.escape(_HOW_BROWSERS)}</p><p>{html.escape(_HOW_PROGRAMS)}</p>"))
        else:
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(f"401 Unauthorized\n{_HOW_BROWSERS}\n{_HOW_PROGRAMS}\n")

    def _without_token(self) -> str:
        rest = {name: values for name, values in self.request.query_arguments.items() if name != IN_LINKS}
        query = urlencode(rest, doseq=True)
        last = quote(self.request.path.rpartition("/")[2]) or "./"
        return f"{last}?{query}" if query else last


_HOW_BROWSERS = (
    "Open the link that client.dashboard_link gives in Python: it signs this browser in. Each link does so within "
    "12 hours, and for two minutes after it was first opened."
)
_HOW_PROGRAMS = (
    "Programs send the header 'Authorization: Bearer TOKEN'; client.web_token() gives one. To show pages to everybody "
    "who reaches them, set distributed.auth.pages to false."
)


class NotFound(PageHandler):
    """Every other path."""

    def prepare(self) -> None:
        raise HTTPError(404)


class NoProxy(PageHandler):
    """Pages of workers are read where they are served: nothing here fetches what a visitor names."""

    def prepare(self) -> None:
        raise HTTPError(403)


class Redirect(PageHandler):
    """To a page of this server."""

    def initialize(self, web: Any, target: str = "/status") -> None:
        super().initialize(web)
        self.target = target

    def get(self) -> None:
        self.set_status(302)
        self.set_header("Location", self.root + self.target.lstrip("/"))
        self.finish()


class Health(PageHandler):
    """``ok`` while the event loop turns."""

    access = ANYBODY

    def get(self) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("ok")


class Status(PageHandler):
    """The live page; its script fetches ``json/status.json``."""

    def get(self) -> None:
        name = "scheduler.html" if is_scheduler(self.owner) else "worker.html"
        text = (STATIC / name).read_text(encoding="utf-8")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(text.replace("{{root}}", html.escape(self.root, quote=True)))


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
        rows = "".join(f'<li><a href="{_attribute(self.root + p[1:])}">{html.escape(p)}</a></li>' for p in self.links)
        self.finish(page(self.title, f"<ul>{rows}</ul>", self.root))


class Sitemap(PageHandler):
    """Every path, for programs."""

    def initialize(self, web: Any, paths: tuple[str, ...] = ()) -> None:
        super().initialize(web)
        self.paths = paths

    def get(self) -> None:
        self.send_json({"paths": list(self.paths)})


class NoPlots(PageHandler):
    """Names of single plots, for the JupyterLab extension: none without the full dashboard."""

    access = ANYBODY

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
        self.finish(page("Workers", summary + table(head, rows), self.root))


class LogsPage(PageHandler):
    """The last lines of the scheduler's log."""

    def get(self) -> None:
        lines = "\n".join([html.escape(line) for _, line in self.owner.get_logs(n=200)])
        self.finish(page("Log", f"<pre>{lines}</pre>", self.root))


def page(title: str, body: str, root: str | None = None) -> str:
    """A plain page; ``body`` is escaped already. ``root``: where the style sheet is found; None: without."""
    safe = html.escape(title)
    style = "" if root is None else f'<link rel="stylesheet" href="{_attribute(root)}static/style.css">'
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{safe}</title>{style}</head>'
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
