"""Partitions of webhooks: each is consumed by one replica at a time, and replicas share them."""
