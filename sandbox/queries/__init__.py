"""HogQL over the captured events: the subset that the sandbox supports."""
