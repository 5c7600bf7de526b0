"""A stand-in for PostHog on this machine, for demos, tests and development.

It follows the public repository PostHog/posthog: docstrings name the files, and docs/sandbox.md
lists the differences. All state is in memory.
"""
