"""The `hogsend` command."""
