"""The generators of `docs.generate`, one module for each kind of document."""
