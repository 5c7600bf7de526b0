"""Erasure: the end of one person's data, here and on the bus; see `docs/privacy.md`."""
