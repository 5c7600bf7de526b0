"""Dead letters: listed, replayed, purged."""
