"""Several gateway processes on one port: a parent process and `GATEWAY_WORKERS` workers."""
