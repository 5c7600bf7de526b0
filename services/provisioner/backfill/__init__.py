"""Backfills: reads events that PostHog had before the connection, page by page."""
