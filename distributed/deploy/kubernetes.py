"""``KubeCluster``: a scheduler in this process, workers as pods of Kubernetes. Shell: speaks to its API by HTTP.

In a pod it uses the pod's service account; elsewhere an address of the API that needs no authentication, as ``kubectl
proxy`` gives one. The cluster's secret is a Secret that goes when the cluster closes; pods mount it as a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

import distributed.scheduler as schedulers
from distributed.base.settings import parse_bytes, parse_timedelta
from distributed.base.status import Status
from distributed.comm import secrets
from distributed.comm.keys import Secret
from distributed.deploy.members import ProcessInterface
from distributed.deploy.spec import SpecCluster

__all__ = ["API", "KubeCluster", "Pod"]

logger = logging.getLogger("distributed.deploy.kubernetes")

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LABEL = "dask-cluster"
_MOUNT = "/run/dask/token"
_ANSWER_S = 30.0
_IN_VAIN = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
}


class API:
    """Objects of one namespace.

    Parameters
    ----------
    url
        Of the API, such as ``"http://127.0.0.1:8001"``; None: that of the cluster that this pod is in.
    namespace
        None: that of this pod, else ``"default"``.

    Raises
    ------
    RuntimeError
        There is neither an address nor a service account. Of all methods: the API refuses; its own words are quoted.
    """

    def __init__(self, url: str | None = None, namespace: str | None = None) -> None:
        self._in_pod = url is None
        if url is None:
            host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
            if host is None or not (_ACCOUNT / "token").exists():
                raise RuntimeError(
                    "this is no pod with a service account: run 'kubectl proxy' and give api='http://...'"
                )
            url = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        if namespace is None:
            with contextlib.suppress(OSError):
                namespace = (_ACCOUNT / "namespace").read_text().strip() if self._in_pod else None
        self.url, self.namespace = url.rstrip("/"), namespace or "default"

    async def create(self, kind: str, document: Mapping[str, Any]) -> None:
        await self._ask("POST", kind, document)

    async def delete(self, kind: str, name: str) -> None:
        """Nothing happens if it is gone."""
        await self._ask("DELETE", f"{kind}/{quote(name)}", none_is_well=True)

    async def labelled(self, kind: str, value: str) -> list[dict[str, Any]]:
        answer = await self._ask("GET", f"{kind}?labelSelector={quote(f'{_LABEL}={value}')}")
        found: list[dict[str, Any]] = answer.get("items", [])
        return found

    async def _ask(
        self, method: str, path: str, document: Mapping[str, Any] | None = None, none_is_well: bool = False
    ) -> dict[str, Any]:
        headers, certificates = {"Content-Type": "application/json"}, None
        if self._in_pod:  # read anew: Kubernetes renews it
            headers["Authorization"] = f"Bearer {(_ACCOUNT / 'token').read_text().strip()}"
            certificates = str(_ACCOUNT / "ca.crt")
        request = HTTPRequest(
            f"{self.url}/api/v1/namespaces/{quote(self.namespace)}/{path}",
            method,
            headers,
            None if document is None else json.dumps(document),
            request_timeout=_ANSWER_S,
            ca_certs=certificates,
        )
        try:
            answer = await AsyncHTTPClient().fetch(request)
        except HTTPClientError as e:
            if e.code == 404 and none_is_well:
                return {}
            said = e.message
            with contextlib.suppress(ValueError, AttributeError, KeyError):
                said = json.loads(e.response.body)["message"]  # type: ignore[union-attr]
            raise RuntimeError(f"Kubernetes refuses ({method} {path.partition('?')[0]}, {e.code}): {said}") from None
        except OSError as e:
            raise RuntimeError(f"the API of Kubernetes at {self.url} does not answer: {e}") from None
        found: dict[str, Any] = json.loads(answer.body or b"{}")
        return found


class Pod(ProcessInterface):
    """A pod with one worker.

    Parameters
    ----------
    scheduler
        Its address.
    api
        Where the pod is made.
    template
        The pod without what this class knows: its name, its labels, and the worker's command.
    cluster
        Name of the cluster.
    words
        The worker's command, without address and name.
    """

    def __init__(
        self, scheduler: str, api: API, template: Mapping[str, Any], cluster: str, words: list[str], name: Any = None
    ) -> None:
        super().__init__()
        self.api, self.name = api, name
        self.pod_name = f"{cluster}-{name}-{uuid4().hex[:6]}"
        self.end_reason = "has failed"
        self._making: asyncio.Task[None] | None = None
        self._document: dict[str, Any] = json.loads(json.dumps(template))
        self._document["metadata"] |= {"name": self.pod_name}
        command, *rest = words
        self._document["spec"]["containers"][0]["args"] = [command, scheduler, "--name", str(name), *rest]

    async def start(self) -> None:
        """Have it made. ``RuntimeError`` quotes Kubernetes when it refuses."""
        self._making = asyncio.ensure_future(self.api.create("pods", self._document))
        # What has been asked for comes, whoever gives up waiting: close() deletes it.
        await asyncio.shield(self._making)
        await super().start()

    async def close(self) -> None:
        """Delete it, once it is made."""
        known = self.status is not Status.closed
        await super().close()
        if known and self._making is not None:
            await asyncio.wait([self._making])
            if self._making.exception() is None:
                await self.api.delete("pods", self.pod_name)
            else:  # refused, or made and the answer was lost
                with contextlib.suppress(RuntimeError):
                    await self.api.delete("pods", self.pod_name)

    def look(self, pod: Mapping[str, Any] | None) -> None:
        """What Kubernetes says of it, None for nothing: it may have ended, or be in vain."""
        reason = "was deleted" if pod is None else _why_over(pod.get("status", {}))
        if reason and self.status is Status.running:
            self.end_reason = f"has ended: its pod {self.pod_name} {reason}"
            self.ended(failed=True)


def _why_over(status: Mapping[str, Any]) -> str:
    """Why a pod has ended or cannot run; empty if it runs or may run."""
    states = [one.get("state", {}) for one in status.get("containerStatuses", [])]
    if status.get("phase") in ("Failed", "Succeeded"):
        ended = [one["terminated"] for one in states if one.get("terminated")]
        causes = [f"{one.get('reason', 'exit')} (exit code {one.get('exitCode')})" for one in ended]
        return f"is {status['phase']}: {status.get('reason') or ', '.join(causes) or 'for no stated reason'}"
    waiting = [one["waiting"] for one in states if one.get("waiting", {}).get("reason") in _IN_VAIN]
    return f"cannot run: {waiting[0]['reason']}: {waiting[0].get('message', '')}".rstrip(": ") if waiting else ""


class KubeCluster(SpecCluster):
    """Workers as pods of Kubernetes; the scheduler is in this process, which pods must be able to reach.

    Parameters
    ----------
    image : str
        With this package in it.
    n_workers : int
        Workers to begin with.
    cores, memory : int, int or str
        Of each worker; limits of its pod.
    namespace : str, optional
        Default: that of this pod.
    api : str, optional
        Address of Kubernetes' API, such as ``kubectl proxy`` gives; default: as this pod's service account has it.
    env : dict, optional
        Variables of the workers' environment.
    pod_template : dict, optional
        A pod as Kubernetes takes it, to add to: node selectors, tolerations, volumes; its first container is the
        worker's.
    worker_arguments : list of str
        More arguments of ``dask-worker``.
    host : str, optional
        Where the scheduler listens; default: all interfaces, guarded by the cluster's secret.
    scheduler_options : dict, optional
        More keywords of ``Scheduler``.
    poll_interval : str or float
        How often Kubernetes is asked for the pods.
    **kwargs
        See ``SpecCluster``.

    Examples
    --------
    >>> cluster = KubeCluster(image="registry.example.org/dask:1", cores=2, memory="4 GiB")  # doctest: +SKIP
    >>> cluster.adapt(minimum=0, maximum=20)  # doctest: +SKIP
    """

    def __init__(
        self,
        image: str,
        n_workers: int = 0,
        cores: int = 1,
        memory: int | str = "2 GiB",
        namespace: str | None = None,
        api: str | None = None,
        env: Mapping[str, str] | None = None,
        pod_template: Mapping[str, Any] | None = None,
        worker_arguments: list[str] | None = None,
        host: str | None = None,
        scheduler_options: Mapping[str, Any] | None = None,
        poll_interval: str | float = "5s",
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._api = API(api, namespace)
        self._secret = secrets.from_environment() or Secret.new()
        self._each = int(cores), int(parse_bytes(memory))
        self._poll_s = float(parse_timedelta(poll_interval))
        self._looking: asyncio.Task[None] | None = None
        name = name or f"dask-{uuid4().hex[:8]}"
        words = ["dask-worker", "--nthreads", str(cores), "--memory-limit", str(self._each[1])]
        words += ["--death-timeout", "120", *(worker_arguments or [])]
        template = _template(pod_template or {}, image, name, self._each, env or {})
        worker = {"cls": Pod, "options": {"api": self._api, "template": template, "cluster": name, "words": words}}
        options = {"host": host or "", "secret": self._secret, **(scheduler_options or {})}
        super().__init__(
            dict.fromkeys(range(n_workers), worker),
            {"cls": schedulers.Scheduler, "options": options},
            worker,
            name=name,
            **kwargs,
        )

    def _threads_per_worker(self) -> int:
        return self._each[0]

    def _memory_per_worker(self) -> int:
        return self._each[1]

    async def _start_parts(self) -> None:
        metadata = {"name": self.name, "labels": {_LABEL: self.name}}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
        try:
            await self._api.create("secrets", {**secret, "stringData": {"token": self._secret.reveal()}})
        except BaseException:
            self.status = Status.failed
            raise
        self._looking = asyncio.ensure_future(self._keep_looking())
        await super()._start_parts()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            asked = list(self.workers.values())
            try:
                found = {pod["metadata"]["name"]: pod for pod in await self._api.labelled("pods", self.name)}
            except RuntimeError as e:
                logger.warning("Cannot ask for the pods: %s", e)
                continue
            for pod in asked:
                if pod.status is Status.running:
                    pod.look(found.get(pod.pod_name))

    async def _close_parts(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        try:
            await super()._close_parts()
        finally:
            try:
                await self._api.delete("secrets", self.name)
            except RuntimeError as e:
                logger.warning("The Secret %s may be left: %s", self.name, e)


def _template(
    given: Mapping[str, Any], image: str, cluster: str, each: tuple[int, int], env: Mapping[str, str]
) -> dict[str, Any]:
    """The pod of each worker, but for its name and its command."""
    document: dict[str, Any] = json.loads(json.dumps({"metadata": {}, "spec": {}, **given}))
    document |= {"apiVersion": "v1", "kind": "Pod"}
    document["metadata"].setdefault("labels", {})[_LABEL] = cluster
    spec = document["spec"]
    spec.setdefault("restartPolicy", "Never")
    spec.setdefault("automountServiceAccountToken", False)
    first = spec.setdefault("containers", [{}])[0]
    first |= {"name": first.get("name", "worker"), "image": image}
    amounts = {"cpu": str(each[0]), "memory": str(each[1])}
    first.setdefault("resources", {"requests": amounts, "limits": amounts})
    variables = {**env, "DASK_DISTRIBUTED__AUTH_TOKEN_FILE": _MOUNT}
    first.setdefault("env", []).extend({"name": key, "value": value} for key, value in variables.items())
    mount = {"name": "dask-secret", "mountPath": _MOUNT, "subPath": "token", "readOnly": True}
    first.setdefault("volumeMounts", []).append(mount)
    volume = {"name": "dask-secret", "secret": {"secretName": cluster, "defaultMode": 0o400}}
    spec.setdefault("volumes", []).append(volume)
    return document
