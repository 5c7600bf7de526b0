"""Provisioner: the destination in PostHog that delivers events here, made once and kept right."""
