"""Which texts PostHog sends unchanged, and which it evaluates as a template."""

from __future__ import annotations

import pytest

from hogsend.posthog.hog_template import is_plain


@pytest.mark.parametrize(
    "text", ["", "0f9c", "p@ss'w\"ord}", "a/b+c==", r"back\slash", r"\'quoted", "$&%[](),;:<>|~"]
)
def test_a_text_without_brace_and_escape_is_plain(text: str) -> None:
    assert is_plain(text)


@pytest.mark.parametrize(
    "text", ["{event}", "pass{word", r"\{escaped", r"a\nb", r"a\\b", r"\x41", r"\0", r"a\Tb"]
)
def test_a_text_with_an_opening_brace_or_an_escape_is_a_template(text: str) -> None:
    assert not is_plain(text)
