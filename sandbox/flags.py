"""Feature flags, defined with `/_sandbox/flags` and evaluated for SDKs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sandbox.evaluation_runtime import Runtime, is_evaluated
from sandbox.functions.filters import PropertyFilter, holds


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """A flag. It is on for persons who meet all of its conditions."""

    key: str
    enabled: bool = True
    variant: str | None = None
    payload: Any = None
    distinct_ids: list[str] | None = None
    """Distinct ids that the flag is on for; all by default."""

    properties: list[PropertyFilter] = []
    """Conditions on the person's properties."""

    evaluation_runtime: Runtime = "all"
    """Clients that the flag is evaluated for: browsers and apps, servers, or both."""


class Reason(msgspec.Struct, frozen=True):
    """The reason for a flag's value."""

    code: str
    condition_index: int | None
    description: str


class Metadata(msgspec.Struct, frozen=True):
    """Id, version and payload of a flag."""

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


class Rollout(msgspec.Struct, frozen=True):
    """A variant, and the percentage of people who get it."""

    key: str
    rollout_percentage: int = 100
    name: str = ""


class Multivariate(msgspec.Struct, frozen=True):
    """The variants of a flag."""

    variants: tuple[Rollout, ...]


class Group(msgspec.Struct, frozen=True):
    """Conditions, all of which must be true."""

    properties: list[PropertyFilter]
    rollout_percentage: int = 100
    variant: str | None = None


class FlagFilters(msgspec.Struct, frozen=True):
    """Conditions of a flag: it is on for persons who meet any of the groups."""

    groups: tuple[Group, ...]
    payloads: dict[str, str]
    multivariate: Multivariate | None = None


class FlagDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A flag's definition, which SDKs evaluate locally (posthog/api/feature_flag.py)."""

    id: int
    team_id: int
    name: str = ""
    key: str
    filters: FlagFilters
    deleted: bool = False
    active: bool
    ensure_experience_continuity: bool = False
    version: int = 1
    evaluation_runtime: Runtime


class Flags:
    """All flags, in order of definition."""

    def __init__(self) -> None:
        self.all: list[Flag] = []

    def evaluate(
        self,
        distinct_id: str,
        properties: Mapping[str, Any],
        keys: list[str] | None,
        runtime: Runtime | None,
    ) -> dict[str, FlagDetails]:
        """Evaluate the flags of a runtime for a person: all of them, or those in `keys`."""
        return {
            flag.key: _details(number, flag, _is_on(flag, distinct_id, properties))
            for number, flag in enumerate(self.all, 1)
            if is_evaluated(flag.evaluation_runtime, runtime) and (keys is None or flag.key in keys)
        }

    def definitions(self, team_id: int) -> list[FlagDefinition]:
        """Return the definitions of all flags."""
        return [_definition(number, flag, team_id) for number, flag in enumerate(self.all, 1)]

    def payload(self, key: str) -> str | None:
        """The payload of a flag that is on, by its key or number; None without one.

        Raises:
            LookupError: there is no such flag.
        """
        for number, flag in enumerate(self.all, 1):
            if key in (flag.key, str(number)):
                return _payload(flag) if flag.enabled else None
        raise LookupError(key)


def _definition(number: int, flag: Flag, team_id: int) -> FlagDefinition:
    # In SDKs the distinct id is a property of the person.
    conditions = [
        msgspec.structs.replace(condition, type="person") for condition in flag.properties
    ]
    if flag.distinct_ids is not None:
        conditions.append(PropertyFilter("distinct_id", flag.distinct_ids, "exact", "person"))
    payload = _payload(flag)
    return FlagDefinition(
        id=number,
        team_id=team_id,
        key=flag.key,
        active=flag.enabled,
        evaluation_runtime=flag.evaluation_runtime,
        filters=FlagFilters(
            groups=(Group(conditions, variant=flag.variant),),
            payloads={flag.variant or "true": payload} if payload is not None else {},
            multivariate=Multivariate((Rollout(flag.variant),)) if flag.variant else None,
        ),
    )


def _payload(flag: Flag) -> str | None:
    if flag.payload is None or isinstance(flag.payload, str):
        return flag.payload
    return msgspec.json.encode(flag.payload).decode()


def _is_on(flag: Flag, distinct_id: str, properties: Mapping[str, Any]) -> bool:
    return (
        flag.enabled
        and (flag.distinct_ids is None or distinct_id in flag.distinct_ids)
        and all(
            holds(msgspec.structs.replace(condition, type="person"), {}, properties)
            for condition in flag.properties
        )
    )


def _details(number: int, flag: Flag, on: bool) -> FlagDetails:
    reason = (
        Reason("condition_match", 0, "Matched condition set 1")
        if on
        else Reason("no_condition_match", None, "No matching condition set")
    )
    metadata = Metadata(number, 1, None, _payload(flag) if on else None)
    return FlagDetails(flag.key, on, flag.variant if on else None, reason, metadata)
