"""Outbound destinations: which there are, and what became of events there."""
