"""Capture: what SDKs send, and the persons it makes."""
