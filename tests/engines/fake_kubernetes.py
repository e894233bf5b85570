"""A stand-in for Kubernetes: enough of its API for pods and Secrets, and containers as processes of this machine. It
keeps to the documented answers, but admits, schedules and isolates nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


class FakeKubernetes:
    """``url`` is that of its API. ``objects`` are by kind and name; ``refuse`` is what the next pod is refused with; no
    pod is made while ``admits`` is not set, and ``asked`` says that one shall be."""

    def __init__(self, folder: Path, programs: Mapping[str, str]) -> None:
        self.folder, self.programs = folder, programs
        self.objects: dict[str, dict[str, dict[str, Any]]] = {"pods": {}, "secrets": {}}
        self.made: list[dict[str, Any]] = []
        self.refuse: str | None = None
        self.asked = threading.Event()
        self.admits = threading.Event()
        self.admits.set()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def create(self, kind: str, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = document["metadata"]["name"]
        if kind == "pods":
            self.asked.set()
            self.admits.wait(60)
        if name in self.objects[kind]:
            return 409, {"message": f'{kind} "{name}" already exists'}
        if kind == "pods" and self.refuse:
            return 403, {"message": f'pods "{name}" is forbidden: {self.refuse}'}
        self.made.append(document)
        self.objects[kind][name] = {**document, "status": {"phase": "Pending"}}
        if kind == "pods" and not document["spec"]["containers"][0]["image"].startswith("nowhere"):
            self._run(name, document)
        elif kind == "pods":
            waiting = {"reason": "ErrImagePull", "message": "no such image"}
            self.objects[kind][name]["status"]["containerStatuses"] = [{"state": {"waiting": waiting}}]
        return 201, self.objects[kind][name]

    def _run(self, name: str, pod: dict[str, Any]) -> None:
        """As a kubelet: mount the Secret with its mode, set the environment, start the command."""
        (container,) = pod["spec"]["containers"]
        (volume,) = pod["spec"]["volumes"]
        (mount,) = container["volumeMounts"]
        secret = self.objects["secrets"][volume["secret"]["secretName"]]
        file = self.folder / f"{name}-{mount['subPath']}"
        file.write_text(secret["stringData"][mount["subPath"]])
        file.chmod(volume["secret"]["defaultMode"])
        set_there = {one["name"]: one["value"].replace(mount["mountPath"], str(file)) for one in container["env"]}
        program, *words = container["args"]
        with (self.folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", self.programs[program], *words],
                env={**os.environ, **set_there}, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.objects["pods"][name]["status"]["phase"] = "Running"

    def delete(self, kind: str, name: str) -> tuple[int, dict[str, Any]]:
        found = self.objects[kind].pop(name, None)
        if found is None:
            return 404, {"message": f'{kind} "{name}" not found'}
        self._end(name)
        return 200, found

    def fail(self, name: str, reason: str) -> None:
        """The pod is evicted, say."""
        self._end(name)
        self.objects["pods"][name]["status"] = {"phase": "Failed", "reason": reason}

    def _end(self, name: str) -> None:
        process = self._running.pop(name, None)
        if process is not None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        for name in list(self._running):
            self._end(name)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(cluster: FakeKubernetes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self, code: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def parts(self) -> list[str]:
            words = urlsplit(self.path).path.strip("/").split("/")
            assert words[:4] == ["api", "v1", "namespaces", "tests"], self.path
            return words[4:]

        def do_POST(self) -> None:
            (kind,) = self.parts()
            document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(*cluster.create(kind, document))

        def do_DELETE(self) -> None:
            kind, name = self.parts()
            self.answer(*cluster.delete(kind, name))

        def do_GET(self) -> None:
            (kind,) = self.parts()
            (selector,) = parse_qs(urlsplit(self.path).query)["labelSelector"]
            key, _, value = selector.partition("=")
            found = list(cluster.objects[kind].values())
            self.answer(200, {"items": [one for one in found if one["metadata"]["labels"].get(key) == value]})

        def log_message(self, *args: Any) -> None:
            pass

    return Handler
