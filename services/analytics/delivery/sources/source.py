"""What a source is."""

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
    """The source subscribed to this message, but there is nothing to send."""


class Source(ABC):
    """One subscription, and how its messages become captures."""

    name: ClassVar[str]
    """Label in logs and metrics."""
    has_history: ClassVar[bool] = False
    """Whether people can look up what became of each message; see `record`."""

    @property
    @abstractmethod
    def subscription(self) -> Subscription:
        """Which messages it reads."""

    @property
    def destination_id(self) -> str:
        """Id of the outbound destination, for metrics; empty for what is none."""
        return ""

    @property
    def dead_letter_headers(self) -> dict[str, str]:
        """Headers that lead a replayed dead letter back to this source only."""
        return {}

    @property
    def revision(self) -> object:
        """Changes whenever `read` may give something else for the same message."""
        return None

    async def refresh(self) -> None:  # noqa: B027 - most never change
        """Look at what an operator may have changed, before anything is read or sent.

        Raises:
            HogsendError: that cannot be found out right now.
        """

    @abstractmethod
    def read(self, message: ReadableMessage) -> Captured | None:
        """What to capture; None when the message does not concern this source.

        Raises:
            Unprocessable: no retry will help.
            Skipped: there is nothing to send, which the history records.
        """

    @abstractmethod
    async def project(self) -> Project | None:
        """Where to capture now; None means that events are discarded silently.

        Raises:
            HogsendError: that cannot be found out right now.
            Unprocessable: the configuration cannot work.
        """

    async def record(self, outcomes: Sequence[Outcome]) -> None:  # noqa: B027 - most have no history
        """Add what became of messages to the delivery history; only asked if there is one.

        Raises:
            HogsendError: the history cannot be written.
        """


def decode(message: ReadableMessage, type: type[Decoded]) -> Decoded:
    """Decode a message's body.

    Raises:
        Unprocessable: it is malformed.
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

    Ingest reads the same message and makes a dead letter of it; a second one would be replayed
    twice.
    """
    try:
        return read_engagement(
            message.subject, message.headers, message.body, message.position, message.queued_at
        )
    except MalformedEngagement:
        return None
