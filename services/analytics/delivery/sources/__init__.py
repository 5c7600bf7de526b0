"""Where events for PostHog come from, and how each source maps them."""
