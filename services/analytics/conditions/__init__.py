"""Property conditions over persons."""
