"""PostHog's webhooks: checks them, and makes them durable in JetStream or in the spool."""
