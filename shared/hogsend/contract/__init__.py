"""The contract of the bus: subjects, messages, streams and permissions. No I/O."""
