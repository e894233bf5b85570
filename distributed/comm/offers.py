"""What the two ends of a socket agree on in the handshake: a compression, and checksums. Shell: asks the settings.

Neither is worth its price within one machine, where the kernel copies memory.
"""

from __future__ import annotations

from distributed.base import settings
from distributed.comm import addressing
from distributed.comm.handshake import NOTHING, Offer
from distributed.protocol import compression


def our_offer(peer: str) -> Offer:
    """What to offer to the peer at this address; it must be the address of the socket, not one that led there."""
    if not peer.startswith("tcp://"):
        return NOTHING
    elsewhere = not addressing.is_own_ip(addressing.get_address_host(peer))
    wanted = settings.get("distributed.comm.checksums", "auto")
    checksums = elsewhere if wanted == "auto" else bool(wanted)
    compresses = elsewhere and bool(settings.get("distributed.comm.compression", "auto"))
    return Offer(compression.available() if compresses else (), checksums)


def agreed_compression(ours: Offer, theirs: Offer) -> str | None:
    """What to send with, when these are the offers of the two ends."""
    if not ours.compressions or not theirs.compressions:
        return None
    return compression.choose(settings.get("distributed.comm.compression", "auto"), theirs.compressions)


def agreed_checksums(ours: Offer, theirs: Offer) -> bool:
    """Either end may want them: where addresses are translated, one end may take the other for a neighbour."""
    return ours.checksums or theirs.checksums
