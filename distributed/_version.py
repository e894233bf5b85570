"""The version: CalVer, year.month.patch."""

__version__ = "2026.11.0"
