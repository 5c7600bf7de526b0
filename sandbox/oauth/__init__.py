"""The OAuth authorization server: clients, consent, tokens."""
