"""What `docs.generate` writes, one module a kind of document."""
