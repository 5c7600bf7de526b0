"""Property conditions on persons."""
