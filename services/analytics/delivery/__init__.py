"""Delivery to PostHog: captures, person writes, engagement and mirrored events."""
