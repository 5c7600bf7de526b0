"""Several gateway processes on one port: a parent, and `GATEWAY_WORKERS` of them."""
