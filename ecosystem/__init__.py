"""Other people's packages on this engine: programs that use them, and tests that they ship (docs/ECOSYSTEM.md)."""
