"""Webhooks in partitions: each consumed by one replica at a time, and all shared evenly."""
