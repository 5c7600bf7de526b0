"""Feature flags, as far as SDKs ask for them."""
