"""Checks that a text has no template syntax of PostHog, which compiles the inputs of destinations.

PostHog compiles every text input as a template string (`posthog/cdp/validation.py`,
`posthog/hogql/grammar/HogQLLexer.common.g4`). A brace starts an expression, and a backslash an
escape. Not every text can be escaped so that the result is the original text, because PostHog
replaces one kind of escape after another.
"""

from __future__ import annotations

import re

_SYNTAX = re.compile(r"\{|\\[abfnrtvx0\\]", re.IGNORECASE)


def is_plain(text: str) -> bool:
    """Whether PostHog sends a text unchanged, because it has no expression and no escape."""
    return _SYNTAX.search(text) is None
