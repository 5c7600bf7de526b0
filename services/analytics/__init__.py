"""Analytics: reads persons and flags from PostHog, and sends it what services report."""
