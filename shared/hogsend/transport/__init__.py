"""The connection to NATS: publishing, consuming, TLS."""
