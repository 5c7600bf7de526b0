"""The output of `hogsend audit`."""
