"""The globals of a hog function, and templates rendered with them.

Follows `convertToHogFunctionInvocationGlobals` in nodejs/src/cdp/utils.ts and the templating in
nodejs/src/cdp/utils/hog-function-inputs.ts. The sandbox replaces paths such as `{event.uuid}`. It
cannot evaluate other Hog expressions.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import msgspec

from sandbox.functions.model import HogFunction
from sandbox.ingestion.events import CapturedEvent
from sandbox.ingestion.people import Person

_WHOLE = re.compile(r"\{([A-Za-z_$][\w$.]*)\}")
_PATH = re.compile(r"\\\{|\{([A-Za-z_$][\w$.]*)\}")


class ProjectGlobals(msgspec.Struct, frozen=True):
    """`{project}`."""

    id: int
    name: str
    url: str


class EventGlobals(msgspec.Struct, frozen=True):
    """`{event}`."""

    uuid: str
    event: str
    elements_chain: str
    distinct_id: str
    properties: dict[str, Any]
    timestamp: str
    captured_at: str | None
    url: str


class PersonGlobals(msgspec.Struct, frozen=True):
    """`{person}`."""

    id: str
    properties: dict[str, Any]
    name: str
    url: str


class SourceGlobals(msgspec.Struct, frozen=True):
    """`{source}`: the function itself."""

    name: str
    url: str


class Globals(msgspec.Struct, frozen=True):
    """The values that templates can use."""

    project: ProjectGlobals
    event: EventGlobals
    source: SourceGlobals
    groups: dict[str, Any]
    person: PersonGlobals


def globals_of(
    event: CapturedEvent, person: Person, function: HogFunction, site: str, project: int
) -> Any:
    """Build the globals as plain JSON; `site` is the URL of this PostHog."""
    base = f"{site}/project/{project}"
    distinct_id = quote(event.distinct_id, safe="")
    moment = quote(event.timestamp, safe="")
    return msgspec.to_builtins(
        Globals(
            project=ProjectGlobals(project, "Sandbox", base),
            event=EventGlobals(
                uuid=event.uuid,
                event=event.event,
                elements_chain=str(event.properties.get("$elements_chain", "")),
                distinct_id=event.distinct_id,
                properties=event.properties,
                timestamp=event.timestamp,
                captured_at=event.timestamp,
                url=f"{base}/events/{event.uuid}/{moment}",
            ),
            source=SourceGlobals(
                name=function.name or "Unnamed", url=f"{base}/functions/{function.id}"
            ),
            groups={},
            person=PersonGlobals(
                id=person.uuid,
                properties=dict(person.properties),
                name=person.name(event.distinct_id),
                url=f"{base}/person/{distinct_id}",
            ),
        )
    )


def render(template: Any, values: Any) -> Any:
    """Replace the paths in a template. A string that is a single path becomes that value."""
    if isinstance(template, dict):
        return {str(render(key, values)): render(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [render(value, values) for value in template]
    if not isinstance(template, str):
        return template
    if whole := _WHOLE.fullmatch(template):
        return _look_up(whole.group(1), values)
    return _PATH.sub(lambda match: _inserted(match, values), template)


def _inserted(match: re.Match[str], values: Any) -> str:
    if match.group(1) is None:
        return "{"  # escaped
    value = _look_up(match.group(1), values)
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _look_up(path: str, values: Any) -> Any:
    for name in path.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values
