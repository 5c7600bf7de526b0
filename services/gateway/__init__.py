"""Gateway: every HTTP route, the webhook queue, and a spool for when NATS is down."""
