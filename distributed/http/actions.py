"""``/api/v1``: what programs may have a scheduler do over HTTP, by a bearer token of a client. Off by default.

Cookies are good for looking only, so that no page of another site can have a browser act.
"""

from __future__ import annotations

import json
from typing import Any

from tornado.web import HTTPError

from distributed.comm.web_access import ACT
from distributed.http.handlers import PageHandler


class Action(PageHandler):
    """What the others share: a JSON object comes in, JSON goes out; ``ValueError`` becomes 400."""

    access = ACT

    def asked(self, **known: type | tuple[type, ...]) -> dict[str, Any]:
        """The body's items, each of one of these types. 400 that names what is wrong."""
        try:
            found = json.loads(self.request.body or b"{}")
        except (ValueError, RecursionError):
            raise HTTPError(400, reason="The body is not JSON") from None
        if not isinstance(found, dict) or found.keys() - known.keys():
            raise HTTPError(400, reason=f"The body must be an object with some of {', '.join(known)}")
        for name, value in found.items():
            if not isinstance(value, known[name]) or isinstance(value, bool):
                raise HTTPError(400, reason=f"{name} is of the wrong type")
        return found


class Version(Action):
    """What there is."""

    def get(self) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("API V1")


class GetWorkers(Action):
    """Names and addresses."""

    def get(self) -> None:
        workers = [{"name": str(ws.name), "address": ws.address} for ws in self.owner.state.workers.values()]
        self.send_json({"num_workers": len(workers), "workers": workers})


class RetireWorkers(Action):
    """``{"workers": [addresses]}``, or ``{"n": how many}``: data are copied to others, then the workers end."""

    async def post(self) -> None:
        asked = self.asked(workers=list, n=int)
        if ("workers" in asked) == ("n" in asked):
            raise HTTPError(400, reason="Give workers or n")
        if asked.get("n", 0) < 0:
            raise HTTPError(400, reason="n must be a number from 0 on")
        self.web.audit("retire_workers", self.request, "done")
        self.send_json(await self.owner.retire_workers(**asked, close_workers=True))


class AdaptiveTarget(Action):
    """How many workers the present work asks for."""

    def get(self) -> None:
        self.send_json({"workers": self.owner.adaptive_target()})


class CheckIdle(Action):
    """Since when there has been nothing to do."""

    def get(self) -> None:
        self.send_json({"idle_since": self.owner.check_idle()})


ROUTES: list[tuple[Any, ...]] = [
    ("/api/v1", Version),
    ("/api/v1/retire_workers", RetireWorkers),
    ("/api/v1/get_workers", GetWorkers),
    ("/api/v1/adaptive_target", AdaptiveTarget),
    ("/api/v1/check_idle", CheckIdle),
]
