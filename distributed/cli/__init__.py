"""Command lines: thin programs around Scheduler, Worker and Nanny."""
