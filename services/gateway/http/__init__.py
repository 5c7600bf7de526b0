"""HTTP/1.1 from a socket to an ASGI application, in the event loop of the gateway."""
