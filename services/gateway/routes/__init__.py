"""HTTP routes, one module per resource. A route sends a request over NATS and maps the reply."""
