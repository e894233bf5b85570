"""Objects to bytes, messages to buffers, and back. Pure: no sockets, no loop."""
