"""``Security``: which certificates guard connections, from arguments and the configuration, as ``ssl`` contexts.

It holds and checks what users and cluster classes of others pass around (``dask-jobqueue``, ``dask-gateway``), and is
what addresses ``tls://`` need. Without one, connections are guarded by the cluster's secret, and those between machines
are encrypted by certificates that nobody sees (:mod:`distributed.comm.certificates`). Reads certificate files, opens no
connection.
"""

from __future__ import annotations

import ssl
from typing import Any, ClassVar, Self

from distributed.base import defaults, settings
from distributed.comm.certificates import is_content, load_chain, self_signed

__all__ = ["Security", "load_security"]

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
        try:
            cert, key = self_signed()
        except ImportError:
            raise ImportError("Security.temporary() needs the package cryptography: pip install cryptography") from None
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
        if is_content(ca):
            context = ssl.create_default_context(purpose, cadata=ca)
        else:
            context = ssl.create_default_context(purpose, cafile=ca)
        context.check_hostname = False  # certificates name roles of a cluster, not hosts
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = self.tls_min_version or ssl.TLSVersion.TLSv1_2
        if self.tls_max_version is not None:
            context.maximum_version = self.tls_max_version
        load_chain(context, cert, tls["key"])
        if tls["ciphers"]:
            context.set_ciphers(tls["ciphers"])
        return context

    def __repr__(self) -> str:
        """Names and places, never the content of a key."""
        shown = [f"require_encryption={self.require_encryption}"]
        for name in self._FIELDS:
            value = getattr(self, name)
            if isinstance(value, str) and is_content(value):
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
