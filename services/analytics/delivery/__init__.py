"""What flows back into PostHog: captures, person writes, engagement, mirrored events."""
