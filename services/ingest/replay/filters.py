"""Subject filters of consumers of EVENTS, and which of them match copies of a replay."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from hogsend.contract import subjects

EVERYTHING = (f"{subjects.EVENTS}.*", f"{subjects.CONTACTS}.*.erased")
"""All subjects of the stream except those of copies."""

_COPIES = f"{subjects.REPLAYS}.*"


def filters_of(config: Mapping[str, Any]) -> list[str]:
    """The filters in a consumer's configuration; without any, the consumer reads everything."""
    several = config.get("filter_subjects") or ()
    single = config.get("filter_subject")
    return list(several) or ([single] if single else [">"])


def set_filters(config: MutableMapping[str, Any], filters: Sequence[str]) -> None:
    """Set the filters in a consumer's configuration; a single one as `filter_subject`.

    Raises:
        ValueError: `filters` is empty, which JetStream would take for everything.
    """
    if not filters:
        message = "a consumer without a filter reads everything"
        raise ValueError(message)
    config.pop("filter_subject", None)
    config.pop("filter_subjects", None)
    if len(filters) == 1:
        config["filter_subject"] = filters[0]
    else:
        config["filter_subjects"] = list(filters)


def catches_replays(pattern: str) -> bool:
    """Whether a filter matches copies for any durable."""
    return subjects.intersection(pattern, _COPIES) is not None


def names_replays(pattern: str) -> bool:
    """Whether a filter matches copies and nothing else."""
    return catches_replays(pattern) and not _split_off_copies(pattern)


def without_copies(filters: Sequence[str]) -> list[str]:
    """Filters that match the same except copies; empty if `filters` match copies alone."""
    named: list[str] = []
    for pattern in filters:
        named += _split_off_copies(pattern) if catches_replays(pattern) else [pattern]
    named = list(dict.fromkeys(named))
    # JetStream refuses filters that overlap.
    return [
        name
        for name in named
        if not any(subjects.covers(other, name) for other in named if other != name)
    ]


def _split_off_copies(pattern: str) -> list[str]:
    overlaps = (subjects.intersection(pattern, name) for name in EVERYTHING)
    return [name for name in overlaps if name is not None]
