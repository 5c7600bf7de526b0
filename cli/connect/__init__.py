"""`hogsend connect posthog`: the command line's half of the OAuth flow (contract 3 and 8).

`flow` is the whole story, one step after the other; every other module is one of its steps.
"""
