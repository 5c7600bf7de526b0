"""Health of every component and service, as the gateway reports it."""
