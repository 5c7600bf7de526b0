"""`hogsend demo`: the whole loop against a PostHog on this machine, step by step."""
