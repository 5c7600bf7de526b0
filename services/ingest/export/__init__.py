"""Export: returns everything about one person, page by page; see `docs/privacy.md`."""
