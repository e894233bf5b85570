"""Real engines of others that tests start and end: an SSH server."""
