"""Persons of PostHog: properties and time zones."""
