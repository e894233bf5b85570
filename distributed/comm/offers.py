"""What the two ends of a socket agree on in the handshake: encryption, compression and checksums, or shared memory.
Shell: asks the settings.

The first three are not worth their price within one machine, where the kernel copies memory. Whether memory can be
shared needs no proof but the kind of the socket: a unix socket never leaves the machine, and carries descriptors.
"""

from __future__ import annotations

import logging
import os
import sys

from distributed.base import settings
from distributed.comm import addressing
from distributed.comm.handshake import NOTHING, Offer
from distributed.protocol import compression

logger = logging.getLogger("distributed.comm")

_copying = False


def _can_share_memory() -> bool:
    return sys.platform == "linux" and hasattr(os, "memfd_create") and not _copying


def share_no_more(reason: str) -> None:
    """Connections made from now on carry no descriptors of shared memory to this process."""
    global _copying
    if not _copying:
        _copying = True
        logger.warning("Values are copied between the processes of this machine from now on: %s", reason)


def our_offer(peer: str) -> Offer:
    """What to offer to the peer at this address; it must be the address of the socket, not one that led there."""
    if not peer.startswith(("tcp://", "tls://")):
        wanted = settings.get("distributed.comm.shared-memory", "auto")
        return Offer(shared_memory=True) if wanted and _can_share_memory() else NOTHING
    elsewhere = is_elsewhere(peer)
    wanted = settings.get("distributed.comm.checksums", "auto")
    checksums = elsewhere if wanted == "auto" else bool(wanted)
    compresses = elsewhere and bool(settings.get("distributed.comm.compression", "auto"))
    encrypts = peer.startswith("tcp://") and _wants_encryption(elsewhere)
    return Offer(compression.available() if compresses else (), checksums, encryption=encrypts)


def is_elsewhere(peer: str) -> bool:
    """Whether a peer at a tcp or tls address is on another machine."""
    return not addressing.is_own_ip(addressing.get_address_host(peer))


def _wants_encryption(elsewhere: bool) -> bool:
    wanted = settings.get("distributed.comm.encryption", "auto")
    return elsewhere if wanted == "auto" else bool(wanted)


def must_encrypt(peer: str) -> bool:
    """Whether a connection to the peer at this address may not be in clear (``comm.require-encryption``)."""
    if not peer.startswith("tcp://") or not is_elsewhere(peer):
        return False
    return bool(settings.get("distributed.comm.require-encryption", None))


def wants_certificate(peer: str, local: str) -> bool:
    """Whether the peer of a connection may ask for encryption: one that comes from this machine to loopback
    does not; where the settings want everything encrypted, our own offer says so."""
    if not peer.startswith("tcp://"):
        return False
    if not is_elsewhere(peer) and addressing.is_loopback(addressing.get_address_host(local)):
        return False
    return bool(settings.get("distributed.comm.encryption", "auto"))


def agreed_compression(ours: Offer, theirs: Offer) -> str | None:
    """What to send with, when these are the offers of the two ends."""
    if not ours.compressions or not theirs.compressions:
        return None
    return compression.choose(settings.get("distributed.comm.compression", "auto"), theirs.compressions)


def agreed_checksums(ours: Offer, theirs: Offer) -> bool:
    """Either end may want them: where addresses are translated, one end may take the other for a neighbour."""
    return ours.checksums or theirs.checksums
