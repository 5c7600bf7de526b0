"""How it is said: the connection to NATS, publishing, consuming, TLS."""
