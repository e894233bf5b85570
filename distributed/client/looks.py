"""How a client shows itself and its cluster: text, page, addresses, the scheduler's description. A base of
:class:`Client`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import Any

from distributed.base.formatting import format_bytes
from distributed.client.admin import Admin
from distributed.client.cluster_calls import seen
from distributed.client.dashboard_link import dashboard_link_of, known_secret
from distributed.client.session import RUNNING, Session
from distributed.comm.keys import Secret
from distributed.comm.secrets import lookup, write_scheduler_file
from distributed.comm.web_access import PURPOSES, shown_link
from distributed.rpc.loop_runner import SyncMethodMixin


class Looks(SyncMethodMixin):
    """What a client tells of the scheduler that it is connected to."""

    session: Session
    admin: Admin
    cluster: Any
    scheduler_file: Any
    status_before_session: str
    _identity_at: float
    _observe: Secret | None = None

    @property
    def status(self) -> str:
        """``newly-created``, ``connecting``, ``running``, ``closing`` or ``closed``."""
        session = getattr(self, "session", None)
        return self.status_before_session if session is None else session.status

    async def _refresh(self) -> dict[str, Any]:
        info = await self.admin.update_identity()
        self._identity_at = time.monotonic()
        if self._observe is None and (self.session.address or "").startswith("tls") and info.get("services"):
            # Such a cluster knows its members by their certificates; its pages have a secret all the same.
            self._observe = Secret.from_text(await self.session.call("web_key"))
        return info

    def _fresh_identity(self) -> dict[str, Any]:
        """The scheduler's identity, asked for if it is old and the caller may wait."""
        if self.session.status == RUNNING and time.monotonic() - self._identity_at > 0.5:
            if self.asynchronous:
                task = asyncio.ensure_future(self._refresh())
                task.add_done_callback(seen)
            else:
                with contextlib.suppress(Exception):
                    self.sync(self._refresh, asynchronous=False, callback_timeout=0.5)
        return self.admin.identity

    def __repr__(self) -> str:
        name = type(self).__name__
        if self.status not in (RUNNING, "connecting") or not hasattr(self, "admin"):
            return f"<{name}: No scheduler connected>"
        down = self.session.link.down_text()
        if down:
            return f"<{name}: {self.session.address!r} {down}>"
        info = self._fresh_identity()
        workers = list((info.get("workers") or {}).values())
        address = self.session.address
        if not info:
            return f"<{name}: scheduler={address!r}>"
        text = (
            f"<{name}: {address!r} processes={len(workers)} threads={sum(int(w.get('nthreads', 0)) for w in workers)}"
        )
        memory = [int(worker.get("memory_limit") or 0) for worker in workers]
        return f"{text}, memory={format_bytes(sum(memory))}>" if all(memory) else f"{text}>"

    def _repr_html_(self) -> str:
        from html import escape

        link = self.dashboard_link
        anchor = f'<a href="{escape(link)}" target="_blank">{escape(shown_link(link))}</a>' if link else "none"
        cluster = "" if self.cluster is None else f"<p>Cluster: {escape(repr(self.cluster))}</p>"
        return f"<div><h3>Client</h3><p>{escape(repr(self))}</p><p>Dashboard: {anchor}</p>{cluster}</div>"

    @property
    def dashboard_link(self) -> str | None:
        """Where a browser finds the status page; None when there is none.

        The link signs a browser in, within 12 hours and for two minutes after it was first opened.
        """
        link = getattr(self.cluster, "dashboard_link", None)
        if link:
            return str(link)
        return dashboard_link_of(self.admin.identity, self.session.address or "", self._page_secret()) or None

    def _page_secret(self) -> Secret | None:
        connection = self.session.link.connection
        secret_id = b"" if connection is None else connection.comm.secret_id
        return known_secret(self.session.address or "", secret_id) or self._observe

    def web_token(self, purpose: str = "observe") -> str:
        """For programs that read pages or JSON: they send the header ``Authorization: Bearer <token>``.

        Parameters
        ----------
        purpose : {"observe", "metrics", "client"}
            What the token is good for: reading pages and JSON; ``/metrics`` alone; also for what changes something.

        Returns
        -------
        It is good until the cluster's secret changes; empty where no authentication is required. Keep it as a secret.

        Raises
        ------
        ValueError
            There is no such purpose.
        PermissionError
            This client does not have the key: a task's client cannot give tokens of a ``"client"``.
        """
        if purpose not in PURPOSES:
            raise ValueError(f"no purpose {purpose!r}; there are {', '.join(PURPOSES)}")
        secret = self._page_secret()
        if secret is not None and secret.is_open:
            return ""
        if secret is None or not secret.knows(purpose):
            raise PermissionError(f"this client does not have the key of tokens for {purpose!r}")
        return secret.token(purpose)

    def scheduler_info(self, n_workers: int = -1, **kwargs: Any) -> dict[str, Any]:
        """What the scheduler tells of itself: ``address``, ``services``, and ``workers`` by address.

        Parameters
        ----------
        n_workers : int
            At most so many workers; -1: all.

        In coroutines this is the view of a moment ago.
        """
        self.session.check_open("identity")
        if not self.asynchronous:
            self.sync(self._refresh, asynchronous=False)
        else:
            self._fresh_identity()
        info = dict(self.admin.identity)
        if n_workers >= 0:
            info["workers"] = dict(list((info.get("workers") or {}).items())[:n_workers])
        return info

    @property
    def scheduler_address(self) -> str | None:
        """The scheduler's address."""
        return self.session.address

    @property
    def futures(self) -> dict[Any, Any]:
        """Key -> state of what this client holds."""
        self.session.release_dropped()
        return self.session.table.states

    def write_scheduler_file(self, scheduler_file: str) -> None:
        """Write the scheduler's identity and the cluster's secret, for ``Client(scheduler_file=...)``; mode 0600."""
        if self.scheduler_file and os.fspath(self.scheduler_file) == os.fspath(scheduler_file):
            raise ValueError("Scheduler file already set")
        info = dict(self.scheduler_info())
        write_scheduler_file(scheduler_file, info, lookup(self.session.address or ""))
        self.scheduler_file = scheduler_file
