"""Settings: reading and validating them, and those that several services share."""
