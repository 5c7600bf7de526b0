"""Replays: events are delivered to one durable consumer again."""
