"""Diagnosis of the integration with PostHog, part by part. It changes nothing."""
