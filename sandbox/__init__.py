"""A PostHog that runs on this machine: a stand-in for demos, tests and development.

It follows the public repository PostHog/posthog; each behaviour names the file it follows, and
docs/sandbox.md says where it differs. Everything is kept in memory.
"""
