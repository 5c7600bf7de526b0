"""The output of `hogsend contacts`."""
