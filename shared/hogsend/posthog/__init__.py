"""PostHog: its hosts, scopes and client document, and clients of its HTTP APIs."""
