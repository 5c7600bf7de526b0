"""Dead letters: published, listed, replayed, purged."""
