"""PostHog's templates: what it reads in the texts that a destination is given as inputs.

Each of them is compiled as the text of a full template string (`posthog/cdp/validation.py`,
`posthog/hogql/grammar/HogQLLexer.common.g4`): a brace begins an expression, and some characters
after a backslash stand for others. Not every text can be written so that it comes out as it was:
escapes are replaced one kind after another.
"""

from __future__ import annotations

import re

_READ = re.compile(r"\{|\\[abfnrtvx0\\]", re.IGNORECASE)


def is_plain(text: str) -> bool:
    """Whether PostHog sends a text as it was given."""
    return _READ.search(text) is None
