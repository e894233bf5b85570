"""Certificates: those that a process makes for itself, and how ``ssl`` takes them. Shell: makes keys.

A process that listens for other machines has one self-signed certificate, made when first needed, whose key never
leaves its memory. Nobody has to trust it: its fingerprint is covered by the proofs of the handshake
(:mod:`distributed.comm.handshake`). The package ``cryptography`` makes it.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import logging
import os
import ssl
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass

logger = logging.getLogger("distributed.comm")

_lock = threading.Lock()


@dataclass(frozen=True)
class OwnCertificate:
    """What a listener needs for TLS: its context, and the SHA-256 of its certificate."""

    context: ssl.SSLContext
    fingerprint: bytes


def own_certificate() -> OwnCertificate | None:
    """This process's; None, and one warning, when the package ``cryptography`` is missing. Thread-safe.

    The first call takes some hundredths of a second.
    """
    with _lock:
        return _own_certificate(os.getpid())


@functools.cache
def _own_certificate(pid: int) -> OwnCertificate | None:
    try:
        certificate, key = self_signed()
    except ImportError:
        logger.warning(
            "Connections from other machines are authenticated, but not encrypted, because the package cryptography "
            "is missing (pip install cryptography). To refuse them, set distributed.comm.require-encryption"
        )
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # connections are not resumed
    load_chain(context, certificate, key)
    return OwnCertificate(context, hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).digest())


@functools.cache
def pinning_context() -> ssl.SSLContext:
    """For those who connect, and compare the fingerprint themselves."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def load_chain(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    """Have ``context`` show a certificate; both are paths of PEM files, or their content."""
    with _as_file(certificate) as certificate_path, _as_file(key) as key_path:
        context.load_cert_chain(certificate_path or certificate, key_path)


def is_content(value: str) -> bool:
    """Whether it is PEM text rather than the path of a file."""
    return "\n" in value


@contextlib.contextmanager
def _as_file(value: str | None) -> Iterator[str | None]:
    """The path of a PEM file; content is put where only we can read it, for as long as the block runs."""
    if value is None or not is_content(value):
        yield value
        return
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        handle, path, on_disk = os.memfd_create("pem"), "", False
        path = f"/proc/self/fd/{handle}"
    else:
        handle, path = tempfile.mkstemp(prefix="distributed-", suffix=".pem")  # mode 0600
        on_disk = True
    try:
        with os.fdopen(handle, "w") as f:
            f.write(value)
            f.flush()
            yield path
    finally:
        if on_disk:
            os.unlink(path)


def self_signed() -> tuple[str, str]:
    """A new certificate and its key as PEM texts. Raises ImportError without the package ``cryptography``."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "distributed")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return cert.public_bytes(pem).decode(), private.decode()
