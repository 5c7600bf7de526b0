"""Processes accepted events: updates persons, stores events, and starts webhooks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec

from sandbox.ingestion.events import Accepted, CapturedEvent
from sandbox.ingestion.people import People, Person

MAX_STORED_EVENTS = 200_000

EventKey = tuple[str, str, str]
"""Name, distinct id and uuid, by which PostHog recognises a repeated event.

They are in the sorting key of its table (posthog/models/event/sql.py). The uuid alone is not
enough.
"""

Deliver = Callable[[CapturedEvent, Person], None]

ILLEGAL_IDS = frozenset(
    {"", "anonymous", "guest", "distinctid", "distinct_id", "id", "null", "none", "undefined"}
    | {"nan", "true", "false", "[object object]", "0", "email", "not_authenticated"}
)
"""Distinct ids that are never merged (nodejs/.../ingestion/persons/person-merge-service.ts)."""

NO_PERSON_UPDATE_EVENTS = frozenset({"$exception"})
"""Events that do not change a person's properties (nodejs/src/ingestion, person-update.ts)."""

UNSTORED_EVENTS = frozenset({"$$heatmap", "$$client_ingestion_warning", "$performance_event"})
"""Events that are accepted, but become neither an event nor a delivery, and change no person.

Heatmaps and warnings of posthog-js have pipelines of their own (per-distinct-id-pipeline.ts).
Capture drops the performance events of old SDKs (rust/capture/src/v1/analytics/process.rs).
"""

AI_EVENTS = "$ai_"
"""Prefix of AI events. They do not change a person's properties either (ai-event-types.ts),
because their separate pipeline only reads persons."""

PERSON_UPDATES = frozenset({"$set", "$set_once", "$unset"})
"""Properties that are removed from events without person processing
(`normalizeProcessPerson`)."""

LARGE_AI_PROPERTIES = frozenset(
    {"$ai_input", "$ai_output", "$ai_output_choices", "$ai_input_state", "$ai_output_state"}
    | {"$ai_tools"}
)
"""Properties of AI events that PostHog stores separately and does not send to destinations
(split-ai-events-step.ts)."""


class Pipeline:
    """The project's events, in the order of capture."""

    def __init__(self, project_key: str, people: People, deliver: Deliver) -> None:
        self._project_key = project_key
        self._people = people
        self._deliver = deliver
        self.events: dict[EventKey, CapturedEvent] = {}
        """Stored events; a repeated event is stored once."""

        self.captured = 0
        """Number of distinct events, including those that are no longer stored."""

        self.dropped = 0
        """Number of events with an unknown project key, which PostHog accepts and drops."""

    def ingest(self, accepted: Accepted) -> None:
        """Process accepted events."""
        if accepted.token != self._project_key:
            self.dropped += len(accepted.events)
            return
        for event in accepted.events:
            if event.event in UNSTORED_EVENTS:
                continue
            key = (event.event, event.distinct_id, event.uuid)
            if key in self.events:
                continue
            self.events[key] = event
            self.captured += 1
            if len(self.events) > MAX_STORED_EVENTS:
                del self.events[next(iter(self.events))]
            self._deliver(_as_delivered(event), self._person(event))

    def delete_events_of(self, distinct_ids: Collection[str]) -> None:
        """Delete the events of a deleted person. PostHog does so within days."""
        self.events = {
            key: event
            for key, event in self.events.items()
            if event.distinct_id not in distinct_ids
        }

    def _person(self, event: CapturedEvent) -> Person:
        properties = event.properties
        if properties.get("$process_person_profile") is False:
            return self._people.shown_without_profile(event.distinct_id)
        person = self._merged(event) or self._people.get_or_create(event.distinct_id)
        if event.event not in NO_PERSON_UPDATE_EVENTS and not event.event.startswith(AI_EVENTS):
            self._people.write(
                person,
                set=_mapping(properties.get("$set")),
                once=_mapping(properties.get("$set_once")),
                unset=_names(properties.get("$unset")),
            )
        return person

    def _merged(self, event: CapturedEvent) -> Person | None:
        match event.event:
            case "$identify":
                other = event.properties.get("$anon_distinct_id")
            case "$create_alias" | "$merge_dangerously":
                other = event.properties.get("alias")
            case _:
                return None
        if not other:
            return None
        absorbed = other if isinstance(other, str) else msgspec.json.encode(other).decode()
        if absorbed == event.distinct_id:
            return None
        if any(id.strip().casefold() in ILLEGAL_IDS for id in (event.distinct_id, absorbed)):
            return None
        force = event.event == "$merge_dangerously"
        return self._people.merge(event.distinct_id, absorbed, force=force)


def _as_delivered(event: CapturedEvent) -> CapturedEvent:
    omitted: frozenset[str] = frozenset()
    if event.event.startswith(AI_EVENTS):
        omitted |= LARGE_AI_PROPERTIES
    if event.properties.get("$process_person_profile") is False:
        omitted |= PERSON_UPDATES
    if omitted.isdisjoint(event.properties):
        return event
    kept = {key: value for key, value in event.properties.items() if key not in omitted}
    return msgspec.structs.replace(event, properties=kept)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _names(value: Any) -> list[str]:
    if isinstance(value, dict):
        return list(value)
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
