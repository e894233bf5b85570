"""Who may see which page: the one gate before all handlers, also those that users add. Shell: it looks at the clock.

Whatever is not said to be open asks for a token. The address a request comes from proves nothing: any page that a
browser on this machine shows can reach the loopback address. So names of hosts are checked, too.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from distributed.base import settings
from distributed.comm import web_access
from distributed.comm.addressing import is_loopback
from distributed.comm.keys import METRICS, OBSERVE, Secret
from distributed.comm.web_access import ACT
from distributed.http.addressing import LOOPBACK_NAMES

ANYBODY = "anybody"
"""Access of pages that tell nothing: that there is somebody, names of plots."""
_ENOUGH = {ANYBODY: (), METRICS: (METRICS, OBSERVE, ACT), OBSERVE: (OBSERVE, ACT), ACT: (ACT,)}
_MOST_USED_CODES = 100_000


class Verdict(Struct, frozen=True):
    """What is to be done with a request.

    Attributes
    ----------
    status: 200: it goes on; else the answer
    sign_in: name and value of the cookie to set first; the browser then comes again without the token in its address
    """

    status: int = 200
    sign_in: tuple[str, str] | None = None
    reason: str = ""


GO_ON = Verdict()


class Gate:
    """The gate of one web server.

    Parameters
    ----------
    owner: the scheduler or worker; its ``id`` and good secrets are asked for at each request
    allowed_hosts: what requests may call this server; None: anything
    """

    def __init__(self, owner: Any, allowed_hosts: frozenset[str] | None) -> None:
        self._owner = owner
        self._allowed_hosts = allowed_hosts
        self._used: OrderedDict[bytes, float] = OrderedDict()

    def judge(self, request: Any, access: str) -> Verdict:
        """What to do with a request (tornado's) for a page with this access: ANYBODY, METRICS, OBSERVE or ACT."""
        host = host_of(request.host)
        origin = request.headers.get("Origin")
        if origin is not None and _netloc_of(origin) != request.host.lower():
            return Verdict(403, reason="a page of another site has asked for this")
        purpose, sign_in = self._shown(request)
        if not purpose and self._allowed_hosts is not None and host not in self._allowed_hosts:
            return Verdict(403, reason="this server has no such name")
        if sign_in is not None and wants_page(request):
            return Verdict(303, sign_in)
        if self._is_enough(access, purpose, request.remote_ip, host):
            return GO_ON
        return Verdict(403 if purpose else 401, reason="this token is not for that" if purpose else "")

    def _is_enough(self, access: str, purpose: str, remote_ip: str, host: str) -> bool:
        if access == ANYBODY or purpose in _ENOUGH[access] or self._owner.secret.is_open:
            return True
        if access == METRICS and is_loopback(remote_ip) and host in LOOPBACK_NAMES:
            return True
        return access != ACT and not settings.get("distributed.auth.pages", True)

    def _secrets(self) -> list[Secret]:
        return [secret for secret in self._owner.good_secrets if not secret.is_open]

    def _shown(self, request: Any) -> tuple[str, tuple[str, str] | None]:
        """What the visitor has shown, as a purpose, and the cookie that he is to be given."""
        now = time.time()
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        code = request.query_arguments.get(web_access.IN_LINKS, [b""])[-1].decode("ascii", "replace")
        for secret in self._secrets():
            if kind.lower() == "bearer" and (purpose := web_access.purpose_of(secret, token.strip())):
                return purpose, None
            name = web_access.cookie_name(secret)
            cookie = request.cookies.get(name)
            if cookie is not None and web_access.cookie_is_good(secret, cookie.value, now):
                return OBSERVE, (name, cookie.value) if code else None
            if code and self._takes(secret, code, now):
                return OBSERVE, (name, web_access.new_cookie(secret, now))
        return "", None

    def _takes(self, secret: Secret, code: str, now: float) -> bool:
        """Whether the code is good, which it soon is no longer once it has been used."""
        number = web_access.read_code(secret, self._owner.id, code, now)
        if not number:
            return False
        first_use = self._used.get(number)
        if first_use is not None:
            return 0 <= now - first_use < web_access.GOOD_AGAIN_S
        while self._used and next(iter(self._used.values())) + 2 * web_access.CODE_AGE_S < now:
            self._used.popitem(last=False)
        if len(self._used) >= _MOST_USED_CODES:
            return False
        self._used[number] = now
        return True


def wants_page(request: Any) -> bool:
    """Whether this is a browser that goes to a page, and not a program (or a script) that reads."""
    return request.method == "GET" and "text/html" in request.headers.get("Accept", "")


def host_of(netloc: str) -> str:
    """The name in ``name:port``, without brackets."""
    try:
        return (urlsplit(f"//{netloc}").hostname or "").lower()
    except ValueError:
        return ""


def _netloc_of(origin: str) -> str:
    """``name:port`` of an origin; empty for none that can be read."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
