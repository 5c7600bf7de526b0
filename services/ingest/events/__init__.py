"""Incoming events: decodes, stores and publishes them; lists and traces stored events."""
