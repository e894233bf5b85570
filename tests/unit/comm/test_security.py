"""Certificates as arguments: what is taken, what is refused, and that the contexts made of them work."""

from __future__ import annotations

import ssl

import dask.config
import pytest

from distributed import Security


def test_without_certificates_nothing_is_encrypted():
    security = Security()
    assert security.require_encryption is False
    assert security.get_connection_args("client") == {
        "ssl_context": None,
        "require_encryption": False,
        "extra_conn_args": {},
    }
    assert security.get_listen_args("scheduler") == {"ssl_context": None, "require_encryption": False}


def test_the_configuration_fills_what_is_not_given():
    with dask.config.set({"distributed.comm.tls.ca-file": "ca.pem", "distributed.comm.tls.worker.key": "w.pem"}):
        security = Security(tls_worker_cert="mine.pem")
    assert security.get_tls_config_for_role("worker") == {
        "ca_file": "ca.pem",
        "ciphers": None,
        "cert": "mine.pem",
        "key": "w.pem",
    }
    assert security.require_encryption is True


def test_the_versions_are_bounds_of_the_context():
    assert Security().tls_min_version == ssl.TLSVersion.TLSv1_2
    assert Security(tls_min_version=1.3).tls_min_version == ssl.TLSVersion.TLSv1_3
    with pytest.raises(ValueError, match=r"tls_max_version must be 1\.2 or 1\.3, not 0\.9"):
        Security(tls_max_version=0.9)


def test_unknown_keywords_and_roles_are_named():
    with pytest.raises(TypeError, match="no keyword tls_cert; there are tls_ca_file"):
        Security(tls_cert="a.pem")
    with pytest.raises(ValueError, match="no role 'nobody'; there are client, scheduler, worker"):
        Security().get_tls_config_for_role("nobody")


def test_temporary_certificates_shake_hands():
    pytest.importorskip("cryptography")
    security = Security.temporary()
    assert security.require_encryption
    assert "PRIVATE KEY" not in repr(security)
    listening = security.get_listen_args("scheduler")["ssl_context"]
    connecting = security.get_connection_args("client")["ssl_context"]
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = connecting.wrap_bio(to_client, to_server)
    server = listening.wrap_bio(to_server, to_client, server_side=True)
    done: set[int] = set()
    while len(done) < 2:
        for end in (client, server):
            try:
                end.do_handshake()
                done.add(id(end))
            except ssl.SSLWantReadError:
                continue
    assert server.getpeercert(binary_form=True) == client.getpeercert(binary_form=True)


def test_a_stranger_is_refused():
    pytest.importorskip("cryptography")
    listening = Security.temporary().get_listen_args("scheduler")["ssl_context"]
    connecting = Security.temporary().get_connection_args("client")["ssl_context"]
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = connecting.wrap_bio(to_client, to_server)
    server = listening.wrap_bio(to_server, to_client, server_side=True)
    with pytest.raises(ssl.SSLCertVerificationError):
        for _ in range(4):
            for end in (client, server):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
