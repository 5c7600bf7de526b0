"""`hogsend dlq`: messages that could not be processed, on some server."""
