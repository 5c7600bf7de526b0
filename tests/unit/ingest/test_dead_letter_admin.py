"""Dead letters are listed in pages, newest first, and purged by filter."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogsend.contract.dead_letters import (
    DeadLetterPage,
    DeadLettersDone,
    ListDeadLetters,
    PurgeDeadLetters,
)
from hogsend.contract.errors import InvalidRequest, NotFound
from services.ingest.dead_letters import admin as administration
from services.ingest.dead_letters.admin import DeadLetterAdmin
from tests.unit.ingest.fake_letters import FakeLetters

STREAMS = ("WEBHOOKS", "ENGAGEMENT")
REASONS = ("outage", "malformed", "rejected")


async def listed(letters: FakeLetters, **filters: Any) -> DeadLetterPage:
    return await DeadLetterAdmin(letters).page(ListDeadLetters(**filters))


async def purged(letters: FakeLetters, **filters: Any) -> DeadLettersDone:
    return await DeadLetterAdmin(letters).purge(PurgeDeadLetters(**filters))


async def all_pages(letters: FakeLetters, **filters: Any) -> list[int]:
    listed_sequences: list[int] = []
    while True:
        page = await listed(letters, **filters)
        listed_sequences += sequences(page)
        if page.next_before is None:
            return listed_sequences
        filters["before"] = page.next_before


def sequences(page: DeadLetterPage) -> list[int]:
    return [letter.sequence for letter in page.dead_letters]


def letters_of_several_kinds(count: int, gaps: set[int] | None = None) -> FakeLetters:
    letters = FakeLetters()
    for number in range(count):
        letters.add(STREAMS[number % 2], reason=REASONS[number % 3])
    for gap in gaps or ():
        letters.letters.pop(gap, None)
    return letters


@st.composite
def with_gaps(draw: st.DrawFn) -> FakeLetters:
    """Letters of which some were deleted singly, and others in a row."""
    first, length = draw(st.integers(1, 400)), draw(st.integers(0, 400))
    single = draw(st.sets(st.integers(1, 400)))
    return letters_of_several_kinds(
        draw(st.integers(0, 400)), single | set(range(first, first + length))
    )


@given(
    letters=with_gaps(),
    limit=st.integers(1, 100),
    stream=st.sampled_from([None, *STREAMS, "EVENTS"]),
    reason=st.sampled_from([None, *REASONS]),
)
async def test_the_pages_list_every_matching_dead_letter_newest_first(
    letters: FakeLetters, limit: int, stream: str | None, reason: str | None
) -> None:
    expected = sorted(
        (
            sequence
            for sequence, letter in letters.letters.items()
            if stream in {None, letter.stream} and reason in {None, letter.reason}
        ),
        reverse=True,
    )
    filters = {"limit": limit, "stream": stream, "reason": reason}
    assert await all_pages(letters, **filters) == expected
    page = await listed(letters, **filters)
    assert page.total == len(expected)
    assert sequences(page) == expected[:limit]


async def test_the_newest_page_does_not_read_the_whole_stream() -> None:
    letters = letters_of_several_kinds(10_000)
    await listed(letters, limit=50)
    assert letters.reads == [(9873, 10_000)]


async def test_a_long_gap_is_crossed_in_few_reads() -> None:
    letters = FakeLetters()
    letters.add()
    letters.last = 1_000_000
    letters.add()
    assert await all_pages(letters, limit=1) == [1_000_001, 1]
    assert len(letters.reads) < 50


@pytest.mark.parametrize(
    "wrong",
    [
        {"sequence": 3, "stream": "ENGAGEMENT"},
        {"sequence": 3, "reason": "outage"},
        {"sequence": 2},
        {"sequence": 31},
        {"sequence": 0},
        {"sequence": -1},
        {"sequence": 2**64},
    ],
    ids=str,
)
async def test_a_single_letter_that_was_deleted_or_does_not_match_is_not_found(
    wrong: dict[str, Any],
) -> None:
    letters = letters_of_several_kinds(5, {2})
    assert sequences(await listed(letters, sequence=3, stream="WEBHOOKS")) == [3]
    for request in (listed, purged):
        with pytest.raises(NotFound):
            await request(letters, **wrong)
    assert len(letters.letters) == 4


@pytest.mark.parametrize("stream", ["*", ">", "WEBHOOKS.*", "a b", "", "é", "x" * 300])
async def test_a_stream_filter_that_is_no_stream_name_is_refused(stream: str) -> None:
    letters = letters_of_several_kinds(5)
    for request in (listed, purged):
        with pytest.raises(InvalidRequest, match="name of a stream"):
            await request(letters, stream=stream)
    assert len(letters.letters) == 5


async def test_a_dead_letter_is_listed_with_its_body_only_when_requested_by_sequence() -> None:
    letters = FakeLetters()
    letters.add(body=b"nonsense \xff\x00")
    (letter,) = (await listed(letters)).dead_letters
    assert (letter.size, letter.body) == (11, None)
    (letter,) = (await listed(letters, sequence=1)).dead_letters
    assert (letter.size, letter.body, letter.cut) == (11, "nonsense �\0", False)


@given(
    body=st.binary(max_size=3000) | st.just(b"\1" * 20_000) | st.just("é".encode() * 9000),
    max_payload=st.integers(4096, 20_000),
)
async def test_a_single_dead_letter_fits_into_one_reply_whatever_its_body(
    body: bytes, max_payload: int
) -> None:
    letters = FakeLetters(max_payload)
    letters.add(body=body)
    page = await listed(letters, sequence=1)
    assert len(msgspec.json.encode(page)) <= max_payload
    (letter,) = page.dead_letters
    whole = body.decode(errors="replace")
    assert letter.body is not None
    assert whole.startswith(letter.body)
    assert letter.cut == (letter.body != whole)


async def test_a_page_of_dead_letters_ends_at_the_size_limit_of_a_reply() -> None:
    letters = FakeLetters(64 * 1024)
    for _ in range(99):
        letters.add(subject="s" * 3000)
    page = await listed(letters, limit=99)
    assert 10 < len(page.dead_letters) < 99
    assert len(msgspec.json.encode(page)) <= 64 * 1024
    assert await all_pages(letters, limit=99) == list(range(99, 0, -1))


async def test_a_dead_letter_larger_than_a_reply_has_a_page_of_its_own() -> None:
    letters = FakeLetters(4096)
    for _ in range(3):
        letters.add(subject="s" * 5000)
    assert await all_pages(letters, limit=10) == [3, 2, 1]


async def test_a_purge_by_filter_keeps_the_dead_letters_that_do_not_match() -> None:
    letters = letters_of_several_kinds(12)
    assert (await purged(letters, stream="WEBHOOKS", reason="malformed")).count == 2
    assert (await purged(letters, stream="WEBHOOKS")).count == 4
    assert (await purged(letters, reason="outage")).count == 2
    assert (await purged(letters, sequence=2)).count == 1
    assert sorted(letters.letters) == [6, 8, 12]
    assert (await purged(letters)).count == 3
    assert (await purged(letters)).count == 0


async def test_a_dead_letter_that_another_request_deleted_first_is_not_found() -> None:
    letters = letters_of_several_kinds(1)
    letters.overtaken = True
    with pytest.raises(NotFound):
        await purged(letters, sequence=1)


async def test_a_purge_that_runs_out_of_time_reports_that_letters_remain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(administration, "BUDGET_SECONDS", -1)
    letters = letters_of_several_kinds(12)
    done = await purged(letters, reason="outage")
    assert (done.count, done.more) == (1, True)
    assert len(letters.letters) == 11
