"""Sources: what each one sends, read as an incoming event."""
