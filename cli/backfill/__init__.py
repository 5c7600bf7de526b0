"""Showing backfills."""
