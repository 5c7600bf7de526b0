"""Outbound destinations, and the history of what was sent to them."""
