"""The cluster's secret: where it is kept, how it is found. Never shown.

Secrets (:class:`distributed.comm.keys.Secret`) are looked for, in this order: the caller's argument, the environment
(``DASK_DISTRIBUTED__AUTH_TOKEN``, ``..._AUTH_TOKEN_FILE``), this process (clusters it has started or joined), the
store of this user (``~/.config/dask-distributed/clusters``, directory 0700, files 0600). Scheduler files carry one too.

A file that others could read or have written is refused, with the command that repairs it. A secret must not appear in
logs, ``repr``, exceptions, ``argv``, or the environment of a task.
"""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
import secrets as _random
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from distributed.base import settings
from distributed.comm.addressing import ensure_ip, get_address_host_port, is_own_ip, normalize_address, parse_address
from distributed.comm.keys import OPEN, Secret

logger = logging.getLogger("distributed.comm")

ENV_TOKEN = "DASK_DISTRIBUTED__AUTH_TOKEN"
ENV_TOKEN_FILE = "DASK_DISTRIBUTED__AUTH_TOKEN_FILE"
SECRET_VARIABLES = (ENV_TOKEN, ENV_TOKEN_FILE, "DASK_DISTRIBUTED__AUTH__TOKEN", "DASK_DISTRIBUTED__AUTH__TOKEN_FILE")
"""Variables that say the secret, or where it is."""
ENV_STORE = "DASK_DISTRIBUTED__AUTH_STORE"
_STALE_S = 30 * 86400.0


class UnsafeFileError(PermissionError):
    """A file with a secret could be read or written by others; the text says what to do."""


# --- this process -------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_by_address: dict[str, Secret] = {}
_known: dict[bytes, Secret] = {}
_files: dict[str, None] = {}


def register(address: str, secret: Secret) -> None:
    """Remember, in this process, that whoever listens at ``address`` has this secret."""
    with _lock:
        _by_address[normalize_address(address)] = secret
        _note(secret)


def remember(secret: Secret) -> None:
    """This process has joined the cluster of ``secret``; connections to any of its members may use it."""
    with _lock:
        _note(secret)


def _note(secret: Secret) -> None:
    known = _known.get(secret.id)
    if known is None or known.role:  # the whole is not given up for a part
        _known[secret.id] = secret


def drop(secret: Secret) -> None:
    """The secret is good no more."""
    with _lock:
        _known.pop(secret.id, None)
        for address in [address for address, known in _by_address.items() if known.id == secret.id]:
            del _by_address[address]


def forget(address: str) -> None:
    """The listener at ``address`` is gone; its secret is dropped with its last address."""
    with _lock:
        secret = _by_address.pop(normalize_address(address), None)
        if secret is not None and secret not in _by_address.values():
            _known.pop(secret.id, None)


def lookup(address: str) -> Secret | None:
    """The secret known for ``address`` to the environment, this process, or this user's store; else None."""
    found = from_environment()
    if found is not None:
        return found
    with _lock:
        found = _by_address.get(normalize_address(address))
    if found is not None:
        return found
    return next(iter(_stored_for(address)), None)


def lookup_certain(address: str) -> Secret | None:
    """The same without the store, in which there may be secrets of other clusters at this address, or none yet."""
    found = from_environment()
    if found is not None:
        return found
    with _lock:
        return _by_address.get(normalize_address(address))


def lookup_by_id(secret_id: bytes, address: str) -> Secret | None:
    """The secret that a listener at ``address`` has named, if this user is entitled to it: one known to this process,
    or stored for this address, or stored for a cluster of this machine when ``address`` is of this machine."""
    found = from_environment()
    if found is not None and found.id == secret_id:
        return found
    with _lock:
        known = _known.get(secret_id)
    if known is not None:
        return known
    return next((s for s in _stored_for(address) if s.id == secret_id), None) or _in_files(secret_id)


def _in_files(secret_id: bytes) -> Secret | None:
    """From the scheduler files that this process has read: the secret may have been changed since."""
    for path in list(_files):
        try:
            found = read_scheduler_file(path)[1]
        except (OSError, ValueError):
            continue
        if found is not None and found.id == secret_id:
            return found
    return None


# --- environment --------------------------------------------------------------------------------------------------


def from_environment() -> Secret | None:
    """The secret named by the environment or the settings ``distributed.auth``; raises for a token file that is missing
    or open to others. What everybody knows (:data:`OPEN`) where the settings say that none is required."""
    token = os.environ.get(ENV_TOKEN) or settings.get("distributed.auth.token", None)
    if token:
        return _from_text_cached(token)
    path = os.environ.get(ENV_TOKEN_FILE) or settings.get("distributed.auth.token-file", None)
    if path:
        return Secret.from_text(read_private_text(path, ENV_TOKEN_FILE, strict_owner=False))
    return None if settings.get("distributed.auth.required", True) else OPEN


@functools.lru_cache(maxsize=8)
def _from_text_cached(token: str) -> Secret:
    if len(token.strip()) < 16:
        logger.warning("The token in %s is short; use at least 16 random characters", ENV_TOKEN)
    return Secret.from_text(token)


# --- private files ------------------------------------------------------------------------------------------------


def check_private(path: str | os.PathLike[str], info: os.stat_result, what: str, strict_owner: bool = True) -> None:
    """Raise :class:`UnsafeFileError` unless only this user (or root) can read and write the file."""
    name = os.fspath(path)
    if os.name != "posix":
        return
    if info.st_uid not in ((os.getuid(),) if strict_owner else (os.getuid(), 0)):
        raise UnsafeFileError(
            errno.EPERM,
            f"{what} belongs to another user (uid {info.st_uid}), not to you (uid {os.getuid()}); remove it",
            name,
        )
    if info.st_mode & 0o077:
        raise UnsafeFileError(
            errno.EPERM,
            f"{what} can be read or written by others (mode {stat.S_IMODE(info.st_mode):04o}); "
            f"if you trust what is in it, run: chmod go-rwx {name!r}",
            name,
        )


def read_private_text(
    path: str | os.PathLike[str], what: str = "the file", limit: int = 1 << 16, strict_owner: bool = True
) -> str:
    """Contents of a file that holds a secret, after checking that it is a plain file of this user with mode 0600.

    ``strict_owner=False`` also takes root's (a secret mounted into a container) and follows symbolic links.
    """
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    if strict_owner:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        fd = os.open(path, flags)
    except OSError as e:
        if e.errno in (errno.ELOOP, errno.EMLINK):
            raise UnsafeFileError(
                errno.EPERM, f"{what} is a symbolic link, which is not followed; name the file itself", os.fspath(path)
            ) from None
        raise
    with os.fdopen(fd, "rb") as f:
        info = os.fstat(f.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise UnsafeFileError(errno.EPERM, f"{what} is not a plain file", os.fspath(path))
        check_private(path, info, what, strict_owner)
        return f.read(limit).decode()


def write_private_text(path: str | os.PathLike[str], text: str) -> None:
    """Create or replace the file at once, mode 0600, never following a link."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.{_random.token_hex(4)}")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        with os.fdopen(fd, "w") as f:
            f.write(text)
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def private_directory(path: str | os.PathLike[str], what: str = "the directory") -> Path:
    """The directory, made with mode 0700 when it is not there; raises when it is a link, another user's, or open."""
    directory = Path(path)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    info = os.lstat(directory)
    if not stat.S_ISDIR(info.st_mode):
        raise UnsafeFileError(
            errno.EPERM, f"{what} is not a directory (or is a symbolic link); remove it", str(directory)
        )
    check_private(directory, info, what)
    return directory


# --- the store of this user ---------------------------------------------------------------------------------------


def store_directory() -> Path:
    """Where this user's clusters are listed; not created here."""
    explicit = os.environ.get(ENV_STORE)
    if explicit:
        return Path(explicit)
    base = os.environ.get("XDG_CONFIG_HOME")
    root = Path(base) if base and os.path.isabs(base) else Path.home() / ".config"
    return root / "dask-distributed" / "clusters"


def save(secret: Secret, addresses: Iterable[str]) -> Path | None:
    """Put the secret into this user's store. None, and one warning, when that cannot be done (read-only home)."""
    try:
        directory = private_directory(store_directory(), "the store of cluster secrets")
        _drop_stale(directory)
        path = directory / f"{secret.id.hex()}.json"
        document = {
            "addresses": [normalize_address(a) for a in addresses],
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "machine": _machine(),
            "created": time.time(),
            "secret": secret.reveal(),
        }
        write_private_text(path, json.dumps(document))
    except (OSError, RuntimeError) as e:
        logger.warning(
            "Cannot share the cluster's secret with your other programs: %s. They need the scheduler file or %s.",
            e,
            ENV_TOKEN,
        )
        return None
    return path


def remove(secret: Secret) -> None:
    """Take the secret out of this user's store."""
    try:
        (store_directory() / f"{secret.id.hex()}.json").unlink(missing_ok=True)
    except (OSError, RuntimeError):
        pass


def _drop_stale(directory: Path) -> None:
    """Files of clusters that ended without cleaning up go: those of this machine at once, others after a month."""
    horizon = time.time() - _STALE_S
    for entry in os.scandir(directory):
        try:
            old = entry.stat(follow_symlinks=False).st_mtime < horizon
            if old or (entry.name.endswith(".json") and _is_over(json.loads(read_private_text(entry.path, "")))):
                os.unlink(entry.path)
        except (OSError, ValueError, KeyError):
            pass


def _machine() -> str:
    """Where process ids mean what they mean here: this boot of this machine, and its namespace. Empty: not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process was started, in the kernel's ticks; empty: there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_over(document: Any) -> bool:
    """Whether the process that has written this is known to have ended."""
    machine = document.get("machine") if isinstance(document, dict) else None
    return bool(machine) and machine == _machine() and _started(document["pid"]) != document.get("started")


def _stored() -> Iterator[tuple[list[str], Secret]]:
    """Everything in the store, newest first. An unsafe store or file raises: silence would hide an attack."""
    try:
        directory = store_directory()
        info = os.lstat(directory)
    except (OSError, RuntimeError):
        return
    if not stat.S_ISDIR(info.st_mode):
        raise UnsafeFileError(
            errno.EPERM,
            "the store of cluster secrets is not a directory (or is a symbolic link); remove it",
            str(directory),
        )
    check_private(directory, info, "the store of cluster secrets")
    found: list[tuple[float, list[str], Secret]] = []
    for entry in os.scandir(directory):
        if not entry.name.endswith(".json") or entry.name.startswith("."):
            continue
        try:
            document = json.loads(read_private_text(entry.path, "a file of cluster secrets"))
            if _is_over(document):
                continue  # its port may be another cluster's by now
            secret = Secret.from_text(document["secret"])
            found.append((float(document.get("created", 0)), list(document["addresses"]), secret))
        except UnsafeFileError:
            raise
        except (OSError, ValueError, KeyError, TypeError):
            continue
    found.sort(key=lambda item: item[0], reverse=True)
    for _, addresses, secret in found:
        yield addresses, secret


def _stored_for(address: str) -> list[Secret]:
    """Secrets of the store that may belong to ``address``: those stored for it, then, on this machine, those stored
    for its port under another name of the machine, then the rest of this machine's."""
    wanted = normalize_address(address)
    entries = list(_stored())
    if not entries:
        return []
    scheme, _ = parse_address(wanted)
    port: int | None = None
    local = scheme in ("unix", "inproc")
    resolved = wanted
    if not local:
        try:
            host, port = get_address_host_port(wanted)
            ip = ensure_ip(host)
            local = is_own_ip(ip)
            resolved = f"{scheme}://{ip}:{port}" if ":" not in ip else f"{scheme}://[{ip}]:{port}"
        except (OSError, ValueError):
            local = False
    exact = [s for addresses, s in entries if wanted in addresses or resolved in addresses]
    if not local:
        return exact
    suffix = f":{port}"
    same_port = [s for addresses, s in entries if s not in exact and any(a.endswith(suffix) for a in addresses)]
    rest = [s for _, s in entries if s not in exact and s not in same_port]
    return exact + same_port + rest


# --- scheduler files ----------------------------------------------------------------------------------------------


class StaleFileError(ValueError):
    """A scheduler file was left behind by a scheduler that has ended."""


def process_mark() -> dict[str, Any]:
    """What tells later whether this process still runs; the item ``process`` of a scheduler file."""
    return {"pid": os.getpid(), "started": _started(os.getpid()), "machine": _machine()}


def write_scheduler_file(path: str | os.PathLike[str], identity: dict[str, Any], secret: Secret | None) -> None:
    """Write ``identity`` (``address`` and whatever else) and the secret; mode 0600."""
    document = dict(identity)
    if secret is not None:
        document["secret"] = secret.reveal()
    write_private_text(path, json.dumps(document, indent=2, default=str))


def read_scheduler_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Secret | None]:
    """The identity in a scheduler file, and its secret, which is registered for the file's address.

    Raises ``UnsafeFileError`` when the file holds a secret and others can read it, ``ValueError`` when it is no
    scheduler file, ``StaleFileError`` (one of these) when its scheduler is known to have ended, ``FileNotFoundError``
    when there is none.
    """
    with open(path, "rb") as f:
        info = os.fstat(f.fileno())
        raw = f.read(1 << 22)
    try:
        document = json.loads(raw)
        address = document["address"]
        if not isinstance(address, str):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{os.fspath(path)!r} is not a complete scheduler file (JSON with an 'address')") from None
    process = document.get("process")
    if isinstance(process, dict) and _is_over(process):
        raise StaleFileError(
            f"{os.fspath(path)!r} was left behind by a scheduler (pid {process.get('pid')}) that has ended"
        )
    text = document.pop("secret", None)
    if not isinstance(text, str):
        return document, None
    if os.path.islink(path):
        raise UnsafeFileError(
            errno.EPERM,
            "the scheduler file is a symbolic link, which is not followed; name the file itself",
            os.fspath(path),
        )
    check_private(path, info, "the scheduler file")
    secret = Secret.from_text(text)
    register(address, secret)
    _files[os.fspath(path)] = None
    return document, secret
