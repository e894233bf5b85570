"""dask-gateway: a server of its own starts a cluster, and a client reaches it through the server's TLS proxy."""

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from dask_gateway import BasicAuth, Gateway

_SETTINGS = """
import os, sys
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.address = "127.0.0.1:{api}"
c.Proxy.address = "127.0.0.1:{web}"
c.Proxy.tcp_address = "127.0.0.1:{tcp}"
c.UnsafeLocalBackend.clusters_directory = {directory!r}
c.ClusterConfig.scheduler_cmd = [os.path.join(sys.prefix, "bin", "dask-scheduler")]
c.ClusterConfig.worker_cmd = [os.path.join(sys.prefix, "bin", "dask-worker")]
c.ClusterConfig.worker_cores = 1
c.ClusterConfig.worker_memory = "1 G"
"""


def inc(x: int) -> int:
    return x + 1


def free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def wait_for(url: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urlopen(url, timeout=5).close()
            return
        except URLError:
            assert server.poll() is None and time.monotonic() < deadline, "the gateway does not come up"
            time.sleep(0.1)


def use(gateway: Gateway) -> None:
    cluster = gateway.new_cluster()
    cluster.scale(2)
    with cluster.get_client() as client:
        client.wait_for_workers(2, timeout=60)
        assert client.gather(client.map(inc, range(100))) == list(range(1, 101))
        cluster.adapt(minimum=1, maximum=2)
        assert client.submit(sum, client.map(inc, range(10))).result(timeout=60) == 55
    assert [report.name for report in gateway.list_clusters()] == [cluster.name]
    cluster.shutdown()
    assert gateway.list_clusters() == []


def main() -> None:
    api, web, tcp = free_ports(3)
    with tempfile.TemporaryDirectory() as directory:
        settings = Path(directory) / "settings.py"
        settings.write_text(_SETTINGS.format(api=api, web=web, tcp=tcp, directory=directory))
        program = str(Path(sys.executable).parent / "dask-gateway-server")
        server = subprocess.Popen([program, "-f", str(settings)], cwd=directory)
        try:
            wait_for(f"http://127.0.0.1:{web}/api/health", server)
            address = f"http://127.0.0.1:{web}"
            with Gateway(address, proxy_address=f"gateway://127.0.0.1:{tcp}", auth=BasicAuth("alice")) as gateway:
                use(gateway)
        finally:
            server.terminate()
            server.wait(30)
    print("gateway_local ok")


if __name__ == "__main__":
    main()
