"""Alternatives to Hogsend in a few lines each, to compare Hogsend with them."""
