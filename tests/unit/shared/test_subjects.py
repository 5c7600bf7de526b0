"""Subjects: event names as tokens, patterns and their intersections."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogsend.contract import subjects

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


@given(names)
def test_an_event_name_is_escaped_to_one_token_of_printable_ascii(name: str) -> None:
    token = subjects.escape(name)
    assert token.isascii()
    assert token.isprintable()
    assert not set(token) & set(" .*>")
    assert 0 < len(token) <= subjects.MAX_TOKEN_BYTES


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_token_without_a_digest_is_unescaped_to_the_event_name(name: str) -> None:
    token = subjects.escape(name)
    if "~" not in token:
        assert subjects.unescape(token) == name


@given(names, names)
def test_two_event_names_have_one_token_only_if_they_are_equal(first: str, second: str) -> None:
    assert (subjects.escape(first) == subjects.escape(second)) == (first == second)


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
def test_a_token_keeps_readable_characters_and_escapes_others(name: str, token: str) -> None:
    assert subjects.escape(name) == token
    assert subjects.unescape(token) == name


def test_long_event_names_that_differ_at_the_end_have_different_tokens() -> None:
    first, second = (subjects.escape("é" * 500 + end) for end in "ab")
    assert first != second
    assert len(first) == len(second) <= subjects.MAX_TOKEN_BYTES


@pytest.mark.parametrize("token", ["a~" + "0" * 64, "a%2e", "a%4", "a b", "%41"])
def test_a_token_that_escape_cannot_return_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        subjects.unescape(token)


@given(names.filter(lambda name: len(name) > 1))
def test_the_subject_of_replays_does_not_contain_the_name_of_the_durable(durable: str) -> None:
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
def test_a_pattern_covers_the_subjects_that_it_matches(
    pattern: str, subject: str, is_covered: bool
) -> None:
    assert subjects.covers(pattern, subject) is is_covered


@pytest.mark.parametrize(
    ("first", "second", "intersection"),
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
def test_the_intersection_of_two_patterns_matches_what_both_match(
    first: str, second: str, intersection: str | None
) -> None:
    assert subjects.intersection(first, second) == intersection
    assert subjects.intersection(second, first) == intersection


@pytest.mark.parametrize("subject", ["", "a.", ".a", "a..b", "a.*", "a.>", "a b", "a\r\nPUB x"])
def test_a_pattern_or_a_malformed_subject_is_not_literal(subject: str) -> None:
    assert not subjects.is_literal(subject)
    assert subjects.is_literal("a.b")
