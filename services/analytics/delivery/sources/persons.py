"""The source of captures, person writes and aliases that services publish."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from hogsend.contract import subjects
from hogsend.contract.consumers import PERSONS
from hogsend.contract.headers import RECEIVED_AT, message_id
from hogsend.contract.moments import parse_moment, read_moment
from hogsend.contract.persons import Addressed, Alias, Capture, SetPerson, position_id
from hogsend.contract.streams import StreamName
from hogsend.posthog.capture import Captured
from hogsend.service.dead_letters import Unprocessable
from services.analytics.delivery import mapping
from services.analytics.delivery.sources.source import Source, decode
from services.analytics.delivery.streams import ReadableMessage, Subscription
from services.analytics.project_key import Project, ProjectKey

Timed = TypeVar("Timed", bound=Addressed)


class PersonsSource(Source):
    """Everything on `hogsend.persons.*`."""

    name = "persons"
    subscription = Subscription(
        stream=StreamName.PERSONS, subject=f"{subjects.PERSONS}.*", durable=PERSONS
    )

    def __init__(self, project_key: ProjectKey) -> None:
        """Send to the project of `project_key`."""
        self._project_key = project_key

    def read(self, message: ReadableMessage) -> Captured | None:
        """Map a message according to the last token of its subject."""
        match message.subject.rpartition(".")[2]:
            case "set":
                change = _decode(message, SetPerson)
                return mapping.set_person(change, _uuid(change, message), _queued_at(message))
            case "capture":
                event = _decode(message, Capture)
                return mapping.capture(event, _uuid(event, message), _queued_at(message))
            case "alias":
                merge = _decode(message, Alias)
                return mapping.alias(merge, _uuid(merge, message), _queued_at(message))
            case verb:
                raise Unprocessable("unknown_verb", f"there is no verb {verb!r}")

    async def project(self) -> Project | None:
        """The instance's project."""
        return await self._project_key.project_for_events()


def _uuid(request: Addressed, message: ReadableMessage) -> UUID:
    """Return the event's uuid in PostHog, which is the same each time the message is read."""
    if request.id is not None:
        return request.id
    id = message_id(message.headers) or position_id(message.position, message.queued_at)
    return mapping.event_uuid(f"{message.subject}:{id}")


def _queued_at(message: ReadableMessage) -> datetime:
    """When a message was first queued; a replayed dead letter was queued again later."""
    return read_moment(message.headers.get(RECEIVED_AT)) or message.queued_at


def _decode(message: ReadableMessage, kind: type[Timed]) -> Timed:
    """Decode a message. Its `timestamp` may have any form that engagement timestamps may have.

    Raises:
        Unprocessable: the message is malformed.
    """
    try:
        return decode(message, kind)
    except Unprocessable as error:
        document = decode(message, dict[str, Any])
        if not isinstance(text := document.get("timestamp"), str):
            raise
        try:
            timestamp = parse_moment(text)
            return msgspec.convert({**document, "timestamp": timestamp}, kind)
        except (ValueError, msgspec.ValidationError):
            raise error from None
