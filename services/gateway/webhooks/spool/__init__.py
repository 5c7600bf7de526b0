"""The spool: webhooks in files, for when JetStream is unavailable."""
