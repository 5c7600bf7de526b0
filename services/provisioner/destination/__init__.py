"""The destination in PostHog that delivers here: made, adopted, kept up to date."""
