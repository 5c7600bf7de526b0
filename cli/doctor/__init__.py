"""`hogsend doctor`: what a server says of itself and of its PostHog side, and what to do."""
