"""`/api/projects/{id}/hog_functions/`: reads and changes destinations (contract 2.2 to 2.5).

PostHog implements it in `posthog/api/hog_function.py`. Lists contain no inputs, and a change
replaces all inputs at once.
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


class WatcherState(StrEnum):
    """State that PostHog's watcher gives a function which is slow or fails."""

    UNKNOWN = "unknown"
    """PostHog reports no state, as for all functions that are not enabled."""
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """PostHog delivers the function's events through a slower queue."""
    DISABLED = "disabled"
    """PostHog delivers nothing until the function is saved again."""
    BLOCKED = "blocked"
    """PostHog's staff disabled the function; saving it does not help."""


# By `status.state`. Older versions use 4, and PostHog's staff sets 11 and 12.
_WATCHER_STATES = {
    1: WatcherState.HEALTHY,
    2: WatcherState.DEGRADED,
    3: WatcherState.DISABLED,
    4: WatcherState.DISABLED,
    11: WatcherState.DEGRADED,
    12: WatcherState.BLOCKED,
}


class FunctionSummary(msgspec.Struct, frozen=True):
    """An entry of the list of functions."""

    id: str
    name: str


class HogTemplate(msgspec.Struct, frozen=True):
    """The present version of a template. A destination may still have an earlier program."""

    code: str
    inputs_schema: list[Any]


class HogFunction(msgspec.Struct, frozen=True):
    """A destination with all its fields.

    Inputs, their schema and filters are untyped, so that a change sends the operator's additions
    back unmodified.
    """

    id: str
    enabled: bool
    inputs: dict[str, Any]
    inputs_schema: list[Any]
    filters: dict[str, Any]
    watcher_state: WatcherState = WatcherState.UNKNOWN
    hog: str = ""
    """The destination's program."""
    template: HogTemplate | None = None

    def input(self, name: str) -> Any:
        """Return the value of an input; None if it is missing, or secret and not returned."""
        return mapping(self.inputs.get(name)).get("value")

    def is_liquid(self, name: str) -> bool:
        """Whether an input is a Liquid template, in which `{event}` is plain text."""
        return mapping(self.inputs.get(name)).get("templating") == "liquid"

    @property
    def filters_compile(self) -> bool:
        """Whether PostHog could compile the filters. Without that it delivers no event.

        Some cohorts in the filters, or in the project's filters of internal users, cannot be
        compiled. PostHog then stores no `bytecode`, and the reason in `bytecode_error`. Since
        PostHog/posthog#103744 it keeps an earlier bytecode.
        """
        return self.filters.get("bytecode", True) is not None

    def __repr__(self) -> str:
        """Hide the inputs, whose headers contain the webhook secret."""
        return f"HogFunction(id={self.id!r}, enabled={self.enabled!r})"


KeptInput = dict[str, Any]
"""An input as PostHog returned it. A secret input is `{"secret": true}`; sending that back keeps
the stored value."""


class Input(msgspec.Struct, frozen=True):
    """An input with a new value, in PostHog's format."""

    value: Any

    def __repr__(self) -> str:
        """Hide the value, which may be a header with a secret."""
        return "Input(...)"


class NewHogFunction(msgspec.Struct, frozen=True, kw_only=True):
    """Body of the request that creates a function (contract 2.4)."""

    type: str
    name: str
    description: str
    template_id: str
    enabled: bool
    inputs: dict[str, Input]
    filters: dict[str, Any]


class HogFunctionChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Body of the request that changes a function (contract 2.5). Unset fields are not sent."""

    enabled: bool
    inputs: dict[str, Input | KeptInput]
    filters: dict[str, Any]
    hog: str | msgspec.UnsetType = msgspec.UNSET
    inputs_schema: list[Any] | msgspec.UnsetType = msgspec.UNSET


class HogFunctions:
    """The destinations of one project. Every method may raise `PostHogError`."""

    def __init__(self, transport: Transport, project_id: str) -> None:
        self._transport = transport
        self._path = f"/api/projects/{quote(project_id, safe='')}/hog_functions/"

    async def destinations(self) -> list[FunctionSummary]:
        """List destinations in PostHog's order, from at most `MAX_PAGES` pages."""
        summaries: list[FunctionSummary] = []
        path = f"{self._path}?type=destination&limit={PAGE_SIZE}"
        for _ in range(MAX_PAGES):
            page = mapping(await self._transport.get(path))
            entries = [_summary(mapping(entry)) for entry in sequence(page.get("results"))]
            summaries += [entry for entry in entries if entry]
            next_url = page.get("next")
            if not isinstance(next_url, str) or not next_url:
                break
            path = self._transport.path_on_host(next_url)
        return summaries

    async def get(self, id: str) -> HogFunction:
        """Read one destination with all its fields."""
        return _function(id, mapping(await self._transport.get(self._path_of(id))))

    async def create(self, new: NewHogFunction) -> HogFunction | None:
        """Create a destination and return it; None if PostHog's response has no id."""
        created = mapping(await self._transport.post(self._path, new))
        id = identifier(created.get("id"))
        return None if id is None else _function(id, created)

    async def change(self, id: str, changes: HogFunctionChanges) -> None:
        """Change a destination."""
        await self._transport.patch(self._path_of(id), changes)

    def _path_of(self, id: str) -> str:
        return f"{self._path}{quote(id, safe='')}/"


def _function(id: str, body: dict[str, Any]) -> HogFunction:
    return HogFunction(
        id=id,
        enabled=body.get("enabled") is True,
        inputs=mapping(body.get("inputs")),
        inputs_schema=sequence(body.get("inputs_schema")),
        filters=mapping(body.get("filters")),
        watcher_state=_watcher_state(mapping(body.get("status")).get("state")),
        hog=_text(body.get("hog")),
        template=_template(body.get("template")),
    )


def _template(value: Any) -> HogTemplate | None:
    template = mapping(value)
    if not template:
        return None
    # Earlier versions of PostHog call the program `hog`.
    code = _text(template.get("code")) or _text(template.get("hog"))
    return HogTemplate(code, sequence(template.get("inputs_schema")))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _watcher_state(state: Any) -> WatcherState:
    if type(state) is not int:
        return WatcherState.UNKNOWN
    return _WATCHER_STATES.get(state, WatcherState.UNKNOWN)


def _summary(entry: dict[str, Any]) -> FunctionSummary | None:
    id, type, name = identifier(entry.get("id")), entry.get("type"), entry.get("name")
    if id is None or (isinstance(type, str) and type != "destination"):
        return None
    return FunctionSummary(id, name if isinstance(name, str) else "")
