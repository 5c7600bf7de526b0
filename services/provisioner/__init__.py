"""Provisioner: creates and repairs the destination in PostHog that delivers events here."""
