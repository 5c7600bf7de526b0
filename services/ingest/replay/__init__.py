"""Replays: events that are delivered to one durable again."""
