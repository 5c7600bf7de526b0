"""Filters of consumers of EVENTS, and which of them would match copies of a replay."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from hogsend.contract import subjects

EVERYTHING = (f"{subjects.EVENTS}.*", f"{subjects.CONTACTS}.*.erased")
"""What is announced to everybody who reads the stream."""

_REPLAYS = subjects.REPLAYS.split(".")


def filters_of(config: Mapping[str, Any]) -> list[str]:
    """The filters of a consumer; none is everything in the stream."""
    several = config.get("filter_subjects") or ()
    single = config.get("filter_subject")
    return list(several) or ([single] if single else [">"])


def set_filters(config: MutableMapping[str, Any], filters: Sequence[str]) -> None:
    """Give a configuration filters; one is written as clients mostly do."""
    config.pop("filter_subject", None)
    config.pop("filter_subjects", None)
    if len(filters) == 1:
        config["filter_subject"] = filters[0]
    else:
        config["filter_subjects"] = list(filters)


def catches_replays(pattern: str) -> bool:
    """Whether a filter catches copies for some durable."""
    wanted, tokens = pattern.split("."), [*_REPLAYS, "*"]
    if wanted[-1] == ">":
        wanted.pop()
        return len(wanted) < len(tokens) and _overlap(wanted, tokens)
    return len(wanted) == len(tokens) and _overlap(wanted, tokens)


def names_replays(pattern: str) -> bool:
    """Whether a filter is about copies and nothing else."""
    return catches_replays(pattern) and pattern.split(".")[1:2] == _REPLAYS[1:]


def by_name(filters: Sequence[str]) -> list[str]:
    """Filters that catch the same, without copies."""
    named: list[str] = []
    for one in filters:
        wanted = [one]
        if catches_replays(one):
            wanted = [name for name in EVERYTHING if subjects.covers(one, name)]
        # JetStream takes no two filters that overlap.
        named += [name for name in wanted if not any(subjects.covers(two, name) for two in named)]
    return named


def _overlap(wanted: Sequence[str], tokens: Sequence[str]) -> bool:
    return all("*" in {one, two} or one == two for one, two in zip(wanted, tokens, strict=False))
