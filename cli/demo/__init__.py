"""The whole loop against a PostHog on this machine, told step by step."""
