"""Where events for PostHog come from, and what each source does with them."""
