"""OAuth authorization server: discovery, consent, tokens."""
