"""Backfills: events that PostHog had before the connection, read page by page."""
