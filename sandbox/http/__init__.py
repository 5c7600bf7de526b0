"""PostHog's private API, as far as the sandbox has it."""
