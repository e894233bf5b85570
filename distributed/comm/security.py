"""``Security``: which certificates guard connections, from arguments and the configuration, as ``ssl`` contexts.

It holds and checks what users and cluster classes of others pass around (``dask-jobqueue``, ``dask-gateway``). The
transports of this house do not speak TLS yet: whatever would have to encrypt refuses to start, it never goes on in
clear. Reads certificate files, opens no connection.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import ssl
import tempfile
from collections.abc import Iterator
from typing import Any, ClassVar, Self

from distributed.base import defaults, settings

__all__ = ["Security", "load_security", "refuse"]

_VERSIONS = {1.2: ssl.TLSVersion.TLSv1_2, 1.3: ssl.TLSVersion.TLSv1_3}
_ROLES = ("client", "scheduler", "worker")


class Security:
    """Certificates and rules of encrypted connections.

    Parameters
    ----------
    require_encryption : bool, optional
        Whether a connection in clear is refused; default: setting ``distributed.comm.require-encryption``, else
        whether a CA is named.
    **kwargs
        ``tls_ca_file``, ``tls_ciphers``, ``tls_min_version`` (1.2), ``tls_max_version``,
        ``tls_{client,scheduler,worker}_{cert,key}`` and ``extra_conn_args`` (a dict). Each certificate or key is the
        path of a PEM file or its content. What is not given comes from the settings ``distributed.comm.tls.*``.

    Raises
    ------
    TypeError
        A keyword that there is none of.
    ValueError
        A TLS version other than 1.2 and 1.3.
    """

    _FIELDS: ClassVar[dict[str, str]] = {
        "tls_ca_file": "distributed.comm.tls.ca-file",
        "tls_ciphers": "distributed.comm.tls.ciphers",
        "tls_min_version": "distributed.comm.tls.min-version",
        "tls_max_version": "distributed.comm.tls.max-version",
        **{f"tls_{role}_{part}": f"distributed.comm.tls.{role}.{part}" for role in _ROLES for part in ("cert", "key")},
    }

    def __init__(self, require_encryption: bool | None = None, **kwargs: Any) -> None:
        unknown = sorted(set(kwargs) - set(self._FIELDS) - {"extra_conn_args"})
        if unknown:
            known = ", ".join([*self._FIELDS, "extra_conn_args"])
            raise TypeError(f"Security takes no keyword {', '.join(unknown)}; there are {known}")
        self.extra_conn_args: dict[str, Any] = kwargs.pop("extra_conn_args", None) or {}
        for name, setting in self._FIELDS.items():
            value = kwargs.get(name)
            if value is None:
                value = settings.get(setting, None)
            if name.endswith("_version"):
                value = _version(name, value)
            setattr(self, name, value)
        if self.tls_min_version is None:
            self.tls_min_version = ssl.TLSVersion.TLSv1_2
        if require_encryption is None:
            require_encryption = settings.get("distributed.comm.require-encryption", None)
        self.require_encryption = bool(self.tls_ca_file) if require_encryption is None else bool(require_encryption)

    tls_ca_file: str | None
    tls_ciphers: str | None
    tls_min_version: ssl.TLSVersion | None
    tls_max_version: ssl.TLSVersion | None

    @classmethod
    def temporary(cls, **kwargs: Any) -> Self:
        """Certificates made now, that only this object holds: one key, self-signed, for every role.

        Raises
        ------
        ImportError
            The package ``cryptography`` is not installed.
        """
        cert, key = _self_signed()
        made: dict[str, Any] = {"tls_ca_file": cert}
        for role in _ROLES:
            made |= {f"tls_{role}_cert": cert, f"tls_{role}_key": key}
        return cls(**({"require_encryption": True} | made | kwargs))

    def get_tls_config_for_role(self, role: str) -> dict[str, str | None]:
        """``ca_file``, ``ciphers``, ``cert`` and ``key`` of ``"client"``, ``"scheduler"`` or ``"worker"``."""
        _check_role(role)
        return {
            "ca_file": self.tls_ca_file,
            "ciphers": self.tls_ciphers,
            "cert": getattr(self, f"tls_{role}_cert"),
            "key": getattr(self, f"tls_{role}_key"),
        }

    def get_connection_args(self, role: str) -> dict[str, Any]:
        """What one who connects as ``role`` needs: ``ssl_context`` (None: in clear) and the rules."""
        return {
            "ssl_context": self._context(role, ssl.Purpose.SERVER_AUTH),
            "require_encryption": self.require_encryption,
            "extra_conn_args": self.extra_conn_args,
        }

    def get_listen_args(self, role: str) -> dict[str, Any]:
        """What one who listens as ``role`` needs: ``ssl_context`` (None: in clear) and the rules."""
        return {
            "ssl_context": self._context(role, ssl.Purpose.CLIENT_AUTH),
            "require_encryption": self.require_encryption,
        }

    def _context(self, role: str, purpose: ssl.Purpose) -> ssl.SSLContext | None:
        tls = self.get_tls_config_for_role(role)
        ca, cert = tls["ca_file"], tls["cert"]
        if not ca or not cert:
            return None
        if _is_content(ca):
            context = ssl.create_default_context(purpose, cadata=ca)
        else:
            context = ssl.create_default_context(purpose, cafile=ca)
        context.check_hostname = False  # certificates name roles of a cluster, not hosts
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = self.tls_min_version or ssl.TLSVersion.TLSv1_2
        if self.tls_max_version is not None:
            context.maximum_version = self.tls_max_version
        with _as_file(cert) as cert_path, _as_file(tls["key"]) as key_path:
            context.load_cert_chain(cert_path or cert, key_path)
        if tls["ciphers"]:
            context.set_ciphers(tls["ciphers"])
        return context

    def __repr__(self) -> str:
        """Names and places, never the content of a key."""
        shown = [f"require_encryption={self.require_encryption}"]
        for name in self._FIELDS:
            value = getattr(self, name)
            if isinstance(value, str) and _is_content(value):
                value = "<in memory>"
            if value is not None:
                shown.append(f"{name}={value.name if isinstance(value, ssl.TLSVersion) else value}")
        return f"Security({', '.join(shown)})"


def _version(name: str, value: Any) -> ssl.TLSVersion | None:
    if value is None or isinstance(value, ssl.TLSVersion):
        return value
    try:
        return _VERSIONS[float(value)]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{name} must be 1.2 or 1.3, not {value!r}") from None


def _check_role(role: str) -> None:
    if role not in _ROLES:
        raise ValueError(f"no role {role!r}; there are {', '.join(_ROLES)}")


def _is_content(value: str) -> bool:
    return "\n" in value


@contextlib.contextmanager
def _as_file(value: str | None) -> Iterator[str | None]:
    """The path of a PEM file; content is put into a file that only we can read, for as long as the block runs."""
    if value is None or not _is_content(value):
        yield value
        return
    handle, path = tempfile.mkstemp(prefix="distributed-", suffix=".pem")  # mode 0600
    try:
        with os.fdopen(handle, "w") as f:
            f.write(value)
        yield path
    finally:
        os.unlink(path)


def _self_signed() -> tuple[str, str]:
    """A certificate and its key as PEM texts."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError:
        raise ImportError("Security.temporary() needs the package cryptography: pip install cryptography") from None
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


def refuse(security: Any) -> None:
    """Raise ``ValueError`` when ``security`` asks for what the transports of this house cannot do yet."""
    if getattr(security, "require_encryption", False):
        raise ValueError("TLS is not available yet; connections are guarded by the cluster's secret")


def load_security(address: Any) -> Security | None:
    """What the setting ``distributed.client.security-loader`` gives for a cluster's address; None without one.

    Raises ``ValueError`` that names the setting when it names no function, or that function gives something else.
    """
    name = settings.get("distributed.client.security-loader", None)
    if name is None:
        return None
    try:
        loader = defaults.load(name)
    except ImportError as error:
        raise ValueError(f"the setting distributed.client.security-loader is {name!r}: {error}") from error
    found = loader({"address": address})
    if found is not None and not isinstance(found, Security):
        raise ValueError(f"{name} (distributed.client.security-loader) must return a Security, not {found!r}")
    return found
