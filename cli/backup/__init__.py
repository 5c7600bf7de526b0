"""Backup and restore: of the streams only, or of a whole deployment as an encrypted archive."""
