"""Incoming events: decoded, stored in one transaction, published."""
