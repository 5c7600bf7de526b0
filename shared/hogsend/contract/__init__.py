"""What is said on the bus: subjects, messages, streams and permissions. No I/O."""
