"""Fixtures of the tests here: those under test."""

from distributed.utils_test import a, b, c, cleanup, client, cluster_fixture, loop, loop_in_thread, s

__all__ = ["a", "b", "c", "cleanup", "client", "cluster_fixture", "loop", "loop_in_thread", "s"]
