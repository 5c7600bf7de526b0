"""The contract of the bus: subjects, messages, streams and permissions. It does no I/O."""
