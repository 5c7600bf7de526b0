"""Webhooks: checked, then durable in JetStream or in the spool."""
