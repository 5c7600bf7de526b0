"""Settings: from where they are read, what they accept, and those that services share."""
