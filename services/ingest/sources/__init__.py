"""Sources of events: decodes the messages of each to incoming events."""
