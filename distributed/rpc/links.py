"""Which messages may come over which link: what a codec accepts depends on who the two ends are.

Pure. A message that does not belong to the link fails in decoding, and the connection with it: a worker cannot speak
as a client.
"""

from __future__ import annotations

import functools

from distributed.protocol.codec import LINKS, Codec


@functools.cache
def codec_for(role: str, peer_role: str) -> Codec:
    """The codec of one end of a link: decodes what ``peer_role`` may send to ``role``.

    Pairs that have no messages of their own (two workers) have questions and answers. A client that a task has made
    speaks as a client.
    """
    role, peer_role = ("client" if end == "task" else end for end in (role, peer_role))
    return Codec(LINKS.get(f"{peer_role}_to_{role}", LINKS["control"]))
