"""Event names as subject tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogsend.contract import subjects

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


@given(names)
def test_every_name_becomes_one_token_of_printable_ascii(name: str) -> None:
    token = subjects.escape(name)
    assert token.isascii()
    assert token.isprintable()
    assert not set(token) & set(" .*>")
    assert 0 < len(token) <= subjects.MAX_TOKEN_BYTES


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_name_that_fits_comes_back(name: str) -> None:
    token = subjects.escape(name)
    if "~" not in token:
        assert subjects.unescape(token) == name


@given(names, names)
def test_different_names_never_share_a_token(one: str, other: str) -> None:
    assert (subjects.escape(one) == subjects.escape(other)) == (one == other)


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("$pageview", "$pageview"),
        ("", "%"),
        ("order placed", "order%20placed"),
        ("a.b*c>d", "a%2Eb%2Ac%3Ed"),
        ("100%", "100%25"),
        ("~", "%7E"),
        ("größe", "gr%C3%B6%C3%9Fe"),
    ],
)
def test_tokens_stay_readable(name: str, token: str) -> None:
    assert subjects.escape(name) == token
    assert subjects.unescape(token) == name


def test_long_names_that_differ_at_the_end_differ_in_their_digest() -> None:
    one, other = (subjects.escape("é" * 500 + end) for end in "ab")
    assert one != other
    assert len(one) == len(other) <= subjects.MAX_TOKEN_BYTES


@pytest.mark.parametrize("token", ["a~" + "0" * 64, "a%2e", "a%4", "a b", "%41"])
def test_a_token_escape_did_not_make_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        subjects.unescape(token)


@given(names.filter(lambda name: len(name) > 1))
def test_the_subject_of_copies_does_not_tell_whose_they_are(durable: str) -> None:
    subject = subjects.replay(durable)
    assert subjects.covers(f"{subjects.REPLAYS}.*", subject)
    assert subjects.is_literal(subject)
    assert subject.removeprefix(f"{subjects.REPLAYS}.") not in {durable, subjects.escape(durable)}
    assert subject == subjects.replay(durable) != subjects.replay(f"{durable}s")


@pytest.mark.parametrize(
    ("pattern", "subject", "is_covered"),
    [
        (">", "a", True),
        (">", ">", True),
        ("a.>", "a", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a.>", True),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.*", "a.>", False),
        ("a.*.>", "a.>", False),
        ("*.b", "a.b", True),
        ("a.b", "a.*", False),
        ("a.bc.*", "a.b.c", False),
    ],
)
def test_a_pattern_covers_a_subject(pattern: str, subject: str, is_covered: bool) -> None:
    assert subjects.covers(pattern, subject) is is_covered


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (">", "a.*", "a.*"),
        ("a.>", "*.b.>", "a.b.>"),
        ("a.>", "a", None),
        ("a.*.x", "a.b.*", "a.b.x"),
        ("a.*", "a.b.c", None),
        ("a.b", "a.c", None),
        ("a.*.>", "a.b.*.x", "a.b.*.x"),
    ],
)
def test_two_patterns_have_in_common_what_both_get(one: str, other: str, both: str | None) -> None:
    assert subjects.intersection(one, other) == both
    assert subjects.intersection(other, one) == both


@pytest.mark.parametrize("subject", ["", "a.", ".a", "a..b", "a.*", "a.>", "a b", "a\r\nPUB x"])
def test_no_message_lies_on_a_pattern_or_a_broken_subject(subject: str) -> None:
    assert not subjects.is_literal(subject)
    assert subjects.is_literal("a.b")
