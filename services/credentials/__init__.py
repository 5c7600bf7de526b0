"""Credentials: the sealed store, and the events that announce a change."""
