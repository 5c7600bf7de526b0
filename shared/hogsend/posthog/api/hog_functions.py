"""`/api/projects/{id}/hog_functions/`: destinations (contract 2.2 to 2.5).

PostHog's side is `posthog/api/hog_function.py`: lists carry no inputs, and a change replaces all
inputs at once.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from urllib.parse import quote

import msgspec

from hogsend.posthog.api.reading import identifier, mapping, sequence
from hogsend.posthog.api.transport import Transport

PAGE_SIZE = 100
MAX_PAGES = 20


class Watched(StrEnum):
    """What PostHog's watcher makes of a function that is slow or fails."""

    UNKNOWN = "unknown"
    """It says nothing, as about every function that is not enabled."""
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """Its events wait in a slower queue."""
    DISABLED = "disabled"
    """Nothing is delivered until the function is saved again."""
    BLOCKED = "blocked"
    """PostHog's staff disabled it; saving changes nothing."""


# `status.state`. 4 is that of older versions, 11 and 12 are set by PostHog's staff.
_WATCHED = {
    1: Watched.HEALTHY,
    2: Watched.DEGRADED,
    3: Watched.DISABLED,
    4: Watched.DISABLED,
    11: Watched.DEGRADED,
    12: Watched.BLOCKED,
}


class Listed(msgspec.Struct, frozen=True):
    """An entry of the list."""

    id: str
    name: str


class HogTemplate(msgspec.Struct, frozen=True):
    """A destination's template as it is today; the destination may have an earlier program."""

    code: str
    inputs_schema: list[Any]


class HogFunction(msgspec.Struct, frozen=True):
    """A destination in full.

    Inputs, their schema and filters are kept untyped: what the operator added goes back unchanged.
    """

    id: str
    enabled: bool
    inputs: dict[str, Any]
    inputs_schema: list[Any]
    filters: dict[str, Any]
    watched: Watched = Watched.UNKNOWN
    hog: str = ""
    template: HogTemplate | None = None

    def input(self, name: str) -> Any:
        """Return the value of an input; None when it is missing or PostHog does not show it."""
        return mapping(self.inputs.get(name)).get("value")

    def is_liquid(self, name: str) -> bool:
        """Whether PostHog fills an input in as a template of Liquid, to which `{event}` is text."""
        return mapping(self.inputs.get(name)).get("templating") == "liquid"

    @property
    def filters_compile(self) -> bool:
        """Whether PostHog can run the filters; an event is delivered only where it can.

        A cohort in them, or in the project's filters of internal users, may be one that it cannot
        run. It then stores no `bytecode`, and why in `bytecode_error`; since PostHog/posthog#103744
        an earlier bytecode stays.
        """
        return self.filters.get("bytecode", True) is not None

    def __repr__(self) -> str:
        """Name the function only: its headers carry the webhook secret."""
        return f"HogFunction(id={self.id!r}, enabled={self.enabled!r})"


KeptInput = dict[str, Any]
"""An input as PostHog shows it; a secret one is `{"secret": true}`, which keeps what is stored."""


class Input(msgspec.Struct, frozen=True):
    """An input's value in the shape PostHog expects."""

    value: Any

    def __repr__(self) -> str:
        """Hide the value, which may be a header with a secret."""
        return "Input(...)"


class NewHogFunction(msgspec.Struct, frozen=True, kw_only=True):
    """Body of a creation (contract 2.4)."""

    type: str
    name: str
    description: str
    template_id: str
    enabled: bool
    inputs: dict[str, Input]
    filters: dict[str, Any]


class HogFunctionChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Body of a change (contract 2.5); unset fields are not sent."""

    enabled: bool
    inputs: dict[str, Input | KeptInput]
    filters: dict[str, Any]
    hog: str | msgspec.UnsetType = msgspec.UNSET
    inputs_schema: list[Any] | msgspec.UnsetType = msgspec.UNSET


class HogFunctions:
    """Destinations of one project. Every method raises `PostHogError`."""

    def __init__(self, transport: Transport, project_id: str) -> None:
        self._transport = transport
        self._path = f"/api/projects/{quote(project_id, safe='')}/hog_functions/"

    async def destinations(self) -> list[Listed]:
        """List destinations in PostHog's order, over at most `MAX_PAGES` pages."""
        listed: list[Listed] = []
        path = f"{self._path}?type=destination&limit={PAGE_SIZE}"
        for _ in range(MAX_PAGES):
            page = mapping(await self._transport.get(path))
            entries = [_listed(mapping(entry)) for entry in sequence(page.get("results"))]
            listed += [entry for entry in entries if entry]
            following = page.get("next")
            if not isinstance(following, str) or not following:
                break
            path = self._transport.own_path(following)
        return listed

    async def get(self, id: str) -> HogFunction:
        """Read one destination in full."""
        return _function(id, mapping(await self._transport.get(self._of(id))))

    async def create(self, new: NewHogFunction) -> HogFunction | None:
        """Create a destination and return it; None when PostHog's answer has no id."""
        created = mapping(await self._transport.post(self._path, new))
        id = identifier(created.get("id"))
        return None if id is None else _function(id, created)

    async def change(self, id: str, changes: HogFunctionChanges) -> None:
        """Change a destination."""
        await self._transport.patch(self._of(id), changes)

    def _of(self, id: str) -> str:
        return f"{self._path}{quote(id, safe='')}/"


def _function(id: str, found: dict[str, Any]) -> HogFunction:
    return HogFunction(
        id=id,
        enabled=found.get("enabled") is True,
        inputs=mapping(found.get("inputs")),
        inputs_schema=sequence(found.get("inputs_schema")),
        filters=mapping(found.get("filters")),
        watched=_watched(mapping(found.get("status")).get("state")),
        hog=_text(found.get("hog")),
        template=_template(found.get("template")),
    )


def _template(given: Any) -> HogTemplate | None:
    found = mapping(given)
    if not found:
        return None
    # Earlier versions call it `hog`.
    code = _text(found.get("code")) or _text(found.get("hog"))
    return HogTemplate(code, sequence(found.get("inputs_schema")))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _watched(state: Any) -> Watched:
    return _WATCHED.get(state, Watched.UNKNOWN) if type(state) is int else Watched.UNKNOWN


def _listed(entry: dict[str, Any]) -> Listed | None:
    id, type, name = identifier(entry.get("id")), entry.get("type"), entry.get("name")
    if id is None or (isinstance(type, str) and type != "destination"):
        return None
    return Listed(id, name if isinstance(name, str) else "")
