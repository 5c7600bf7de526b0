"""The table of events: its partitions, and the keys by which a stored event is recognised."""
