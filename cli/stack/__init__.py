"""The local stack: NATS and PostgreSQL from wheels, the services, and their supervisor."""
