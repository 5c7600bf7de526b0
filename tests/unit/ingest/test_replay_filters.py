"""Which consumers would get what is replayed to one durable, and what they read instead."""

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
    ("filters", "named"),
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
def test_what_catches_copies_is_replaced_by_what_it_else_catches(
    filters: list[str], named: list[str]
) -> None:
    assert without_copies(filters) == named
    assert not any(map(catches_replays, named))


@pytest.mark.parametrize("pattern", [COPY, "hogsend.replays.*", "*.replays.*", "hogsend.replays.>"])
def test_a_filter_for_copies_is_known(pattern: str) -> None:
    assert names_replays(pattern)
    assert without_copies([pattern]) == []


def test_no_filter_is_never_written_for_what_reads_nothing() -> None:
    config = {"filter_subject": "hogsend.*.x"}
    with pytest.raises(ValueError, match="everything"):
        set_filters(config, [])
    assert config == {"filter_subject": "hogsend.*.x"}


def test_no_filter_is_everything() -> None:
    assert filters_of({"filter_subject": "", "filter_subjects": None}) == [">"]
    assert not names_replays(">")
