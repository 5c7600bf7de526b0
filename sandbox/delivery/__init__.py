"""Delivery of captured events to the webhooks of hog functions."""
