"""Web pages of schedulers and workers: status, health, JSON, tables. Read only; on the loopback address by default."""
