"""`hogsend connect posthog`: the command line's half of the OAuth flow (contract 3 and 8).

`flow` runs the steps in order; each of the other modules is one step or what it needs.
"""
