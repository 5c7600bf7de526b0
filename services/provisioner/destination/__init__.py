"""The destination in PostHog that delivers here: created, adopted, kept up to date."""
