"""Feature flags, defined with `/_sandbox/flags` and evaluated for SDKs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sandbox.functions.filters import PropertyFilter, holds


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """A flag. It is on for a person who meets all of its conditions."""

    key: str
    enabled: bool = True
    variant: str | None = None
    payload: Any = None
    distinct_ids: list[str] | None = None
    """Distinct ids it is on for; all by default."""

    properties: list[PropertyFilter] = []
    """Conditions on the person's properties."""


class Reason(msgspec.Struct, frozen=True):
    """The reason for a flag's value."""

    code: str
    condition_index: int | None
    description: str


class Metadata(msgspec.Struct, frozen=True):
    """Identification of a flag, and its payload."""

    id: int
    version: int
    description: str | None
    payload: str | None


class FlagDetails(msgspec.Struct, frozen=True):
    """An evaluated flag (`FlagDetails` in rust/feature-flags/src/api/types.rs)."""

    key: str
    enabled: bool
    variant: str | None
    reason: Reason
    metadata: Metadata

    @property
    def value(self) -> bool | str:
        """The variant, else whether the flag is on."""
        return self.variant if self.enabled and self.variant else self.enabled


class Flags:
    """All flags, in order of definition."""

    def __init__(self) -> None:
        self.all: list[Flag] = []

    def evaluate(
        self, distinct_id: str, properties: Mapping[str, Any], keys: list[str] | None
    ) -> dict[str, FlagDetails]:
        """Evaluate all flags, or those in `keys`, for a person."""
        return {
            flag.key: _details(number, flag, _is_on(flag, distinct_id, properties))
            for number, flag in enumerate(self.all, 1)
            if keys is None or flag.key in keys
        }


def _is_on(flag: Flag, distinct_id: str, properties: Mapping[str, Any]) -> bool:
    return (
        flag.enabled
        and (flag.distinct_ids is None or distinct_id in flag.distinct_ids)
        and all(
            holds(msgspec.structs.replace(one, type="person"), {}, properties)
            for one in flag.properties
        )
    )


def _details(number: int, flag: Flag, on: bool) -> FlagDetails:
    reason = (
        Reason("condition_match", 0, "Matched condition set 1")
        if on
        else Reason("no_condition_match", None, "No matching condition set")
    )
    payload = flag.payload
    if payload is not None and not isinstance(payload, str):
        payload = msgspec.json.encode(payload).decode()
    metadata = Metadata(number, 1, None, payload if on else None)
    return FlagDetails(flag.key, on, flag.variant if on else None, reason, metadata)
