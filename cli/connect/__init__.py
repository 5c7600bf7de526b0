"""`hogsend connect posthog`: the OAuth flow on the command line (contract 3 and 8).

`flow` runs the steps in order. Each of the other modules is one step, or a part that it needs.
"""
