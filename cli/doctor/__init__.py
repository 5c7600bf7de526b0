"""`hogsend doctor`: checks a server and its connection to PostHog, and prints fixes."""
