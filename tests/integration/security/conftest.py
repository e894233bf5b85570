"""Fixtures of the tests here."""

from distributed.testing import cleanup, loop, loop_in_thread

__all__ = ["cleanup", "loop", "loop_in_thread"]
