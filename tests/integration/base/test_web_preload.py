"""Start-up code at web addresses: taken when its hash is told, or when the settings allow whatever is there."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator

import dask
import pytest

from distributed.base import preloading

CODE = b"answer = 42\n"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CODE if self.path == "/code.py" else bytes(preloading._DOWNLOAD_BYTES + 1))

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/code.py"
    server.shutdown()
    thread.join()
    server.server_close()


def test_with_its_hash(address: str) -> None:
    digest = hashlib.sha256(CODE).hexdigest()
    for told in (digest, digest.upper()):
        assert preloading.load(f"{address}#sha256={told}").answer == 42


def test_with_another_hash(address: str) -> None:
    with pytest.raises(PermissionError, match="not the one that was asked for"):
        preloading.load(f"{address}#sha256={'0' * 64}")


def test_without_hash(address: str) -> None:
    with pytest.raises(PermissionError, match=r"sha256=.*AUTH__PRELOAD_FROM_WEB=True"):
        preloading.load(address)
    with dask.config.set({"distributed.auth.preload-from-web": True}):
        assert preloading.load(address).answer == 42
        with pytest.raises(PermissionError, match="bytes long"):
            preloading.load(address.replace("code", "long"))
