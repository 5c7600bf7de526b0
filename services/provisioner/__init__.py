"""Provisioner: the destination in PostHog that delivers events here, kept up to date."""
