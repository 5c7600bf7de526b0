"""Capture: decodes the events that SDKs send, and maintains persons."""
