"""The interface of sources, which map messages of a stream to events in PostHog."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar, TypeVar, cast

from hogsend.contract.engagement import Engagement, MalformedEngagement, read_engagement
from hogsend.contract.json_numbers import decoder
from hogsend.contract.json_text import NOT_JSON, is_too_deep, repaired_json
from hogsend.posthog.capture import Captured
from hogsend.service.dead_letters import Unprocessable
from services.analytics.delivery.streams import ReadableMessage, Subscription
from services.analytics.destinations.store import Outcome
from services.analytics.project_key import Project

Decoded = TypeVar("Decoded")


class Skipped(Exception):
    """The source subscribed to this message, but the message maps to no event."""


class Source(ABC):
    """A subscription, and the mapping of its messages to captured events."""

    name: ClassVar[str]
    """Label in logs and metrics."""
    has_history: ClassVar[bool] = False
    """Whether the outcome of each message is recorded; see `record`."""

    @property
    @abstractmethod
    def subscription(self) -> Subscription:
        """The messages that the source reads."""

    @property
    def destination_id(self) -> str:
        """Id of the outbound destination, for metrics; empty for other sources."""
        return ""

    @property
    def dead_letter_headers(self) -> dict[str, str]:
        """Headers that make a replayed dead letter go to this source only."""
        return {}

    @property
    def revision(self) -> object:
        """A value that changes whenever `read` may return another event for the same message."""
        return None

    async def refresh(self) -> None:  # noqa: B027 - most sources have nothing to refresh
        """Load the current configuration; called before messages are read and events are sent.

        Raises:
            HogsendError: the configuration cannot be loaded now.
        """

    @abstractmethod
    def read(self, message: ReadableMessage) -> Captured | None:
        """Map a message to an event; None when the message is not for this source.

        Raises:
            Unprocessable: the message can never be mapped; a retry would not help.
            Skipped: the message is for this source but maps to no event. The history records this.
        """

    @abstractmethod
    async def project(self) -> Project | None:
        """Return the project to capture in; None means that events are discarded silently.

        Raises:
            HogsendError: the project cannot be determined now.
            Unprocessable: the configuration cannot work.
        """

    async def record(self, outcomes: Sequence[Outcome]) -> None:  # noqa: B027 - most have no history
        """Add outcomes to the delivery history; called only if `has_history`.

        Raises:
            HogsendError: the history cannot be written.
        """


def decode(message: ReadableMessage, type: type[Decoded]) -> Decoded:
    """Decode a message's body.

    Raises:
        Unprocessable: the body is malformed.
    """
    if is_too_deep(message.body):
        raise Unprocessable("malformed", "nested too deeply")
    try:
        decoded: Decoded = _decoder(cast("Any", type))(repaired_json(message.body))
    except NOT_JSON as error:
        raise Unprocessable("malformed", str(error)) from error
    return decoded


@cache
def _decoder(type: Any) -> Callable[[bytes], Any]:
    return decoder(type)


def decode_engagement(message: ReadableMessage) -> Engagement | None:
    """Decode engagement; None when it is malformed.

    A malformed message becomes no dead letter here: ingest reads the same message and publishes
    the dead letter, and with a second one it would be replayed twice.
    """
    try:
        return read_engagement(
            message.subject, message.headers, message.body, message.position, message.queued_at
        )
    except MalformedEngagement:
        return None
