"""Where events for PostHog come from, and what each source does with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar, TypeVar
from uuid import UUID

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from hogsend.contract import subjects
from hogsend.contract.base import Message
from hogsend.contract.engagement import CATALOG, Engagement, MalformedEngagement, read_engagement
from hogsend.contract.errors import Unavailable
from hogsend.contract.events import Event
from hogsend.contract.headers import DESTINATION
from hogsend.contract.persons import Alias, Capture, SetPerson
from hogsend.contract.streams import StreamName
from hogsend.posthog.capture import Captured
from hogsend.service.metrics import FAILURES
from services.analytics.delivery import mapping
from services.analytics.destinations.model import Destination
from services.analytics.destinations.store import DestinationStore, Outcome
from services.analytics.project_key import Project, ProjectKey

log = structlog.get_logger(__name__)

ACK_WAIT_SECONDS = 10
WINDOW = 2000
"""Events of one source that are in hand at most; all others wait in JetStream."""

HOGSEND, POSTHOG = "hogsend", "posthog"

Wanted = TypeVar("Wanted", bound=Message)


class Unprocessable(Exception):
    """No retry will help this message; `reason` is a stable code for the dead letter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Skipped(Exception):
    """A destination subscribed to this message, and yet there is nothing to send."""


class Source(ABC):
    """A consumer of one stream."""

    name: ClassVar[str]
    stream: ClassVar[StreamName]
    policy: ClassVar[DeliverPolicy] = DeliverPolicy.ALL
    subject: ClassVar[str]

    @property
    def durable(self) -> str:
        """Name of the durable consumer."""
        return self.name

    @property
    def consumer(self) -> ConsumerConfig:
        """The durable consumer."""
        return _consumer(self.durable, self.subject, self.policy)

    @property
    def marks(self) -> dict[str, str]:
        """Headers of a dead letter that lead it back here, and only here."""
        return {}

    @abstractmethod
    def read(self, message: Msg) -> Captured | None:
        """What to capture; None when this source takes no notice.

        Raises:
            Unprocessable: no retry will help.
            Skipped: there is nothing to send, and the history shall say so.
        """

    @abstractmethod
    async def project(self) -> Project | None:
        """Where to capture now; None means that everything is let go, silently.

        Raises:
            HogsendError: not known at the moment.
            Unprocessable: what is configured cannot work.
        """

    async def record(self, outcomes: Sequence[Outcome]) -> None:  # noqa: B027 - not everyone keeps a history
        """Keep what became of messages, for people to look at."""


class PersonsSource(Source):
    """Captures, person writes and aliases of services."""

    name = "persons"
    stream = StreamName.PERSONS
    subject = f"{subjects.PERSONS}.*"

    def __init__(self, project_key: ProjectKey) -> None:
        """Capture into the instance's project."""
        self._project_key = project_key

    def read(self, message: Msg) -> Captured | None:
        """Read by the subject's last token."""
        queued_at = message.metadata.timestamp
        match message.subject.rpartition(".")[2]:
            case "set":
                return mapping.set_person(_decode(message, SetPerson), queued_at)
            case "capture":
                return mapping.capture(_decode(message, Capture), queued_at)
            case "alias":
                return mapping.alias(_decode(message, Alias), queued_at)
            case verb:
                raise Unprocessable("unknown_verb", f"nobody reads {verb!r}")

    async def project(self) -> Project | None:
        """The instance's project."""
        return await self._project_key.project()


class BucketsSource(Source):
    """The bucket mirror: needs a project key, but no destination."""

    name = "buckets"
    stream = StreamName.ENGAGEMENT
    subject = subjects.engagement("bucket.*")

    def __init__(self, project_key: ProjectKey) -> None:
        """Capture into the instance's project."""
        self._project_key = project_key

    def read(self, message: Msg) -> Captured | None:
        """Mirror buckets that ask for it; what is malformed, ingest sets aside."""
        try:
            return mapping.bucket(read(message))
        except Unprocessable:
            return None

    async def project(self) -> Project | None:
        """The instance's project."""
        return await self._project_key.project()


class MirrorSource(Source):
    """Events that were reported to Hogsend itself."""

    name = "mirror"
    stream = StreamName.EVENTS
    subject = f"{subjects.EVENTS}.*"
    policy = DeliverPolicy.NEW

    def __init__(
        self, project_key: ProjectKey, allow: Collection[str], deny: Collection[str]
    ) -> None:
        """Mirror events named in `allow`, all when it is empty, but for those in `deny`."""
        self._project_key = project_key
        self._allow = frozenset(allow)
        self._deny = frozenset(deny)

    def read(self, message: Msg) -> Captured | None:
        """Take no notice of what came from PostHog, and of what destinations send."""
        event = _decode(message, Event)
        if event.source == POSTHOG or event.event in CATALOG or event.event in self._deny:
            return None
        if self._allow and event.event not in self._allow:
            return None
        return mapping.mirrored(event)

    async def project(self) -> Project | None:
        """The instance's project."""
        return await self._project_key.project()


class DestinationSource(Source):
    """Engagement for one destination."""

    name = "destination"
    stream = StreamName.ENGAGEMENT
    subject = f"{subjects.ENGAGEMENT}.>"
    policy = DeliverPolicy.NEW

    def __init__(
        self,
        destination: Destination,
        project_key: ProjectKey,
        store: DestinationStore,
        *,
        default_enabled: bool,
    ) -> None:
        """Send to `destination`; to the default one only with `default_enabled`."""
        self.destination = destination
        self._project_key = project_key
        self._store = store
        self._default_enabled = default_enabled

    @property
    def durable(self) -> str:
        """One consumer for each destination."""
        return durable_of(self.destination.id)

    @property
    def marks(self) -> dict[str, str]:
        """Replayed, a dead letter of one destination is no other's business."""
        return {DESTINATION: str(self.destination.id)}

    def read(self, message: Msg) -> Captured | None:
        """Map what the destination subscribed to, or what is meant for it alone."""
        only = (message.headers or {}).get(DESTINATION)
        if only is not None and only != str(self.destination.id):
            return None
        try:
            happened = read(message)
        except Unprocessable:
            # Ingest reads the same message and sets it aside; once is enough.
            return None
        if only is None and happened.type not in self.destination.event_types:
            return None
        try:
            captured = mapping.engagement(happened, self.destination.config)
        except mapping.NoIdentity as error:
            raise Unprocessable("no_identity", str(error)) from error
        if captured is None:
            raise Skipped
        return captured

    async def project(self) -> Project | None:
        """The destination's own key and host, else the instance's."""
        destination, config = self.destination, self.destination.config
        if destination.disabled or (destination.is_default and not self._default_enabled):
            return None
        project = None
        if not config.api_key:
            project = await self._project_key.project()
            if project is None and destination.is_default:
                return None
        key = config.api_key or (project.key if project else None)
        if not key:
            raise Unprocessable(
                "not_configured", f"the destination has no apiKey ({destination.kind})"
            )
        host = config.host or (project.host if project else None) or self._project_key.host
        return Project(key, host)

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Keep the history; it is for people, so that nothing waits for it."""
        try:
            await self._store.record(self.destination.id, outcomes)
        except Unavailable as error:
            FAILURES.labels("delivery_history", error.code).inc()
            log.warning("delivery history not kept", events=len(outcomes), reason=str(error))


def durable_of(destination: UUID) -> str:
    """Name of a destination's durable consumer."""
    return f"{DestinationSource.name}-{destination}"


def consumer_of(destination: UUID) -> ConsumerConfig:
    """A destination's durable consumer: everything from when it is made."""
    source = DestinationSource
    return _consumer(durable_of(destination), source.subject, source.policy)


def _consumer(durable: str, subject: str, policy: DeliverPolicy) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=durable,
        filter_subject=subject,
        deliver_policy=policy,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_SECONDS,
        max_ack_pending=WINDOW,
        max_deliver=-1,
    )


def read(message: Msg) -> Engagement:
    """Read engagement from the bus.

    Raises:
        Unprocessable: it is not.
    """
    metadata = message.metadata
    try:
        return read_engagement(
            message.subject,
            message.headers or {},
            message.data,
            metadata.sequence.stream,
            metadata.timestamp,
        )
    except MalformedEngagement as error:
        raise Unprocessable("malformed", str(error)) from error


def _decode(message: Msg, type: type[Wanted]) -> Wanted:
    try:
        return msgspec.json.decode(message.data, type=type)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unprocessable("malformed", str(error)) from error
