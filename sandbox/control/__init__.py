"""What PostHog does not have: looking inside, faults, the clock."""
