"""Export: everything about one person, part by part; see `docs/privacy.md`."""
