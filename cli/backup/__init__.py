"""Backup of streams to files and restore, in the layout of `nats stream backup`."""
