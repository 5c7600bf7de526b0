"""What Hogsend knows about PostHog: its hosts, the scopes it asks for, its client document."""
