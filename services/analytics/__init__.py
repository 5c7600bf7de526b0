"""Analytics: reads persons and flags from PostHog, and carries what services do back to it."""
