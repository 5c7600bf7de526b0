"""Filters of consumers of EVENTS, and which of them would match copies of a replay."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from hogsend.contract import subjects

EVERYTHING = (f"{subjects.EVENTS}.*", f"{subjects.CONTACTS}.*.erased")
"""What is announced to everybody who reads the stream."""

_COPIES = f"{subjects.REPLAYS}.*"


def filters_of(config: Mapping[str, Any]) -> list[str]:
    """The filters of a consumer; none is everything in the stream."""
    several = config.get("filter_subjects") or ()
    single = config.get("filter_subject")
    return list(several) or ([single] if single else [">"])


def set_filters(config: MutableMapping[str, Any], filters: Sequence[str]) -> None:
    """Give a configuration filters; one is written as clients mostly do.

    Raises:
        ValueError: there are none, which JetStream would take for everything.
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
    """Whether a filter catches copies for some durable."""
    return subjects.common(pattern, _COPIES) is not None


def names_replays(pattern: str) -> bool:
    """Whether a filter is about copies and nothing else."""
    return catches_replays(pattern) and not _apart_from_copies(pattern)


def by_name(filters: Sequence[str]) -> list[str]:
    """Filters that catch the same, without copies; empty when they catch copies alone."""
    named: list[str] = []
    for one in filters:
        named += _apart_from_copies(one) if catches_replays(one) else [one]
    named = list(dict.fromkeys(named))
    # JetStream takes no two filters that overlap.
    return [
        name
        for name in named
        if not any(subjects.covers(other, name) for other in named if other != name)
    ]


def _apart_from_copies(pattern: str) -> list[str]:
    found = (subjects.common(pattern, name) for name in EVERYTHING)
    return [name for name in found if name is not None]
