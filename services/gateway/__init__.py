"""The gateway service: all HTTP routes, and the webhook queue with its spool."""
