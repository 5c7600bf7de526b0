"""Credentials: sealed at rest, refreshed in time, and published when they change."""
