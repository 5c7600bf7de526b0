"""Names the place of a service's log in hints."""


def log_of(service: str) -> str:
    """Return where the log of a service is in each kind of deployment."""
    return f".hogsend/logs/{service}.log, or `docker compose logs {service}`"
