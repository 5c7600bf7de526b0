"""Filters that match the copies of a replay, and the filters that replace them."""

from __future__ import annotations

import pytest

from hogsend.contract import subjects
from services.ingest.replay.filters import (
    EVERYTHING,
    catches_replays,
    filters_of,
    names_replays,
    set_filters,
    without_copies,
)

COPY = subjects.replay("mailer")


@pytest.mark.parametrize(
    ("filters", "replaced"),
    [
        ([">"], list(EVERYTHING)),
        (["hogsend.>"], list(EVERYTHING)),
        (["hogsend.*.*"], ["hogsend.events.*"]),
        (["hogsend.*.*.*", "hogsend.*.*"], ["hogsend.*.*.*", "hogsend.events.*"]),
        (["hogsend.events.x"], ["hogsend.events.x"]),
        (["hogsend.*.signed_up"], ["hogsend.events.signed_up"]),
        (["*.*.left", "hogsend.*.signed_up"], ["hogsend.events.left", "hogsend.events.signed_up"]),
        (["hogsend.*.*.>"], ["hogsend.*.*.>"]),
        (["hogsend.events.x", ">"], list(EVERYTHING)),
        ([COPY, "hogsend.events.x"], ["hogsend.events.x"]),
    ],
)
def test_a_filter_that_matches_copies_is_replaced_by_its_other_subjects(
    filters: list[str], replaced: list[str]
) -> None:
    assert without_copies(filters) == replaced
    assert not any(map(catches_replays, replaced))


@pytest.mark.parametrize("pattern", [COPY, "hogsend.replays.*", "*.replays.*", "hogsend.replays.>"])
def test_a_filter_that_matches_only_copies_is_recognized(pattern: str) -> None:
    assert names_replays(pattern)
    assert without_copies([pattern]) == []


def test_an_empty_list_of_filters_is_refused_because_it_would_match_everything() -> None:
    config = {"filter_subject": "hogsend.*.x"}
    with pytest.raises(ValueError, match="everything"):
        set_filters(config, [])
    assert config == {"filter_subject": "hogsend.*.x"}


def test_a_consumer_without_filters_reads_everything() -> None:
    assert filters_of({"filter_subject": "", "filter_subjects": None}) == [">"]
    assert not names_replays(">")
