"""The table of events: its partitions, what makes an event known, and their upkeep."""
