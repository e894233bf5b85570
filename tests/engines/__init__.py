"""Real engines of others that tests start and end: SSH servers, MPI, batch systems."""
