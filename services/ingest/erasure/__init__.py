"""Erasure: deletes one person's data in PostgreSQL and on the bus; see `docs/privacy.md`."""
