"""The output of `hogsend destinations`."""
