"""What a visitor of web pages shows: a link that signs one browser in, a cookie, a bearer token. Pure but for
:func:`sign`.

All are derived of the cluster's secret by its key ``observe``, which lets nobody submit or change anything. So a client
makes a link by itself, and every server of the cluster takes the cookie that another has given.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets as _random
import time

from distributed.comm.keys import METRICS, OBSERVE, Secret

ACT = "client"
"""The purpose of bearer tokens of programs that change something; workers do not have its key."""
PURPOSES = (OBSERVE, METRICS, ACT)
IN_LINKS = "dask-token"
"""Name of the code in a query; ``token`` would be taken for its own by a Jupyter server in between."""
CODE_AGE_S = 12 * 3600
"""A link that nobody has opened for so long is worthless."""
SAME_LINK_S = 60
"""A process that asks for a link again within so long is given the same: others compare links."""
GOOD_AGAIN_S = 120
"""A link that has been opened goes on to be good for so long: a browser may have looked ahead, or another have been
given the same link."""
COOKIE_AGE_S = 7 * 86400
_TIME, _NONCE, _MAC = 5, 11, 16


def new_code(secret: Secret, place: str, now: float, nonce: bytes) -> str:
    """What a link to ``place`` (the id of a server) has as ``dask-token=``: good for a while, but
    not for long after its first use.

    >>> code = new_code(Secret(b"x" * 32), "here", 1e9, b"01234567890")
    >>> [bool(read_code(Secret(b"x" * 32), where, code, 1e9)) for where in ("here", "there")]
    [True, False]
    """
    if len(nonce) != _NONCE:
        raise ValueError(f"a nonce has {_NONCE} bytes")
    head = int(now).to_bytes(_TIME, "big") + nonce
    return base64.urlsafe_b64encode(head + _code_mac(secret, place, head)).decode().rstrip("=")


def read_code(secret: Secret, place: str, code: str, now: float) -> bytes:
    """The code's own number, when its maker knows the secret, meant this place, and not too long ago; else nothing.

    Whether the code was used before is for the caller to know, by that number.
    """
    try:
        raw = base64.urlsafe_b64decode(code.encode("ascii", "replace") + b"=" * (-len(code) % 4))
    except (ValueError, binascii.Error):
        return b""
    if len(raw) != _TIME + _NONCE + _MAC:
        return b""
    head, mac = raw[:-_MAC], raw[-_MAC:]
    if not hmac.compare_digest(mac, _code_mac(secret, place, head)):
        return b""
    # The maker's clock may be ahead of ours.
    return head if abs(now - int.from_bytes(head[:_TIME], "big")) <= CODE_AGE_S else b""


def _code_mac(secret: Secret, place: str, head: bytes) -> bytes:
    return secret.mac(OBSERVE, b"sign-in code", place.encode(), head)[:_MAC]


def cookie_name(secret: Secret) -> str:
    """Cookies do not tell ports apart, so that those of several clusters of one machine need names of their own."""
    return f"dask-{secret.id.hex()}"


def new_cookie(secret: Secret, now: float) -> str:
    """The value of the cookie of a browser that has signed in."""
    until = f"{int(now) + COOKIE_AGE_S:x}"
    return f"{until}.{_cookie_mac(secret, until)}"


def cookie_is_good(secret: Secret, value: str, now: float) -> bool:
    """Whether it is one of ours, and not too old."""
    until, _, mac = value.partition(".")
    if not _same_text(mac, _cookie_mac(secret, until)):
        return False
    return int(until, 16) > now


def _cookie_mac(secret: Secret, until: str) -> str:
    return secret.mac(OBSERVE, b"cookie", until.encode("utf-8", "replace")).hex()


def purpose_of(secret: Secret, token: str) -> str:
    """Which of ``PURPOSES`` a bearer token is for; empty: none."""
    found = ""
    for purpose in PURPOSES:
        if secret.knows(purpose) and _same_text(token, secret.token(purpose)):
            found = purpose
    return found


def _same_text(a: str, b: str) -> bool:
    return hmac.compare_digest(a.encode("utf-8", "replace"), b.encode())


_made: dict[tuple[bytes, str], tuple[float, str]] = {}


def sign(link: str, secret: Secret, place: str) -> str:
    """``link`` to a page of the server with the id ``place``, with a code in it that is at most a minute old."""
    now = time.time()
    for made in [made for made, (at, _) in _made.items() if not 0 <= now - at < SAME_LINK_S]:
        _made.pop(made, None)
    if (secret.id, place) not in _made:
        _made[secret.id, place] = now, new_code(secret, place, now, _random.token_bytes(_NONCE))
    _, code = _made[secret.id, place]
    return f"{link}{'&' if '?' in link else '?'}{IN_LINKS}={code}"


def shown_link(link: str) -> str:
    """The link without its code, for people to look at.

    >>> shown_link("http://127.0.0.1:8787/status?dask-token=abc")
    'http://127.0.0.1:8787/status'
    """
    return link.partition(f"?{IN_LINKS}=")[0].partition(f"&{IN_LINKS}=")[0]
