"""Creates, adopts and repairs the destination in PostHog that delivers to this instance."""
