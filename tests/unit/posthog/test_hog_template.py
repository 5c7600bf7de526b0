"""Which texts PostHog sends as they are, and of which it takes a part for a template."""

from __future__ import annotations

import pytest

from hogsend.posthog.hog_template import is_plain


@pytest.mark.parametrize(
    "text", ["", "0f9c", "p@ss'w\"ord}", "a/b+c==", r"back\slash", r"\'quoted", "$&%[](),;:<>|~"]
)
def test_most_texts_are_sent_as_they_are(text: str) -> None:
    assert is_plain(text)


@pytest.mark.parametrize(
    "text", ["{event}", "pass{word", r"\{escaped", r"a\nb", r"a\\b", r"\x41", r"\0", r"a\Tb"]
)
def test_a_brace_and_an_escape_are_templates(text: str) -> None:
    assert not is_plain(text)
