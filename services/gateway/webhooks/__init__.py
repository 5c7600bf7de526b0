"""Webhooks: checked, then made durable in JetStream or in the spool."""
