"""Incoming events: decoded, stored in one transaction, announced."""
