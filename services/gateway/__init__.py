"""Gateway: HTTP for everybody, webhook intake, and a spool for when the bus is away."""
