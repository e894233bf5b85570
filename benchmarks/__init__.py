"""Benchmarks: us and the peers side by side, on this machine, in one run. ``make bench``."""
