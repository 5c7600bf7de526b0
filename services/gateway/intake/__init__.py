"""From an accepted webhook to something that cannot be lost: JetStream, or the spool."""
