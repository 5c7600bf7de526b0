"""Streams to files and back, in the layout of `nats stream backup`."""
