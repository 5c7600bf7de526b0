"""The output of `hogsend dlq`."""
