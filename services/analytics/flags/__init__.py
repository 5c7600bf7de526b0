"""Feature flags of a person."""
