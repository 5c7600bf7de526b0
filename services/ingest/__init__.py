"""Ingest: accepted webhooks become stored events, contacts, and events on the bus."""
