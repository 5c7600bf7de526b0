"""What a user would write instead, in a few lines each, to measure Hogsend beside it."""
