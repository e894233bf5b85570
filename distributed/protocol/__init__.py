"""From objects to bytes and back: pickles, plain data, messages, frames. Knows no socket, no event loop and no server.

``serialize`` makes and opens payloads (user data), ``plain`` carries arguments of operations, ``codec`` turns messages
into segments, ``frames`` turns segments into bytes on a wire.
"""
