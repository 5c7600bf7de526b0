"""Who says what to whom: every published subject and every request, with its message types.

The one source for the permission matrix of the NATS server (`hogsend.permissions`), the AsyncAPI
document and the tables in `docs/bus.md`, so that none of them can drift from the code.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

from hogsend import subjects
from hogsend.messages import (
    Alias,
    AuditEntry,
    AuditPage,
    Capabilities,
    Capture,
    ChangeDestination,
    ConditionResults,
    Contact,
    ContactRef,
    CreateDestination,
    CredentialChanged,
    CredentialMeta,
    CredentialStatus,
    DeadLetter,
    DeadLetterPage,
    DeadLettersDone,
    Deleted,
    DeliveryPage,
    DerivedReply,
    DestinationPage,
    DestinationRef,
    Diagnosis,
    Empty,
    Engagement,
    EvaluateConditions,
    Event,
    EventPage,
    FillTimezone,
    Flags,
    GetFlags,
    GetPerson,
    GetTimezone,
    ListAudit,
    ListDeadLetters,
    ListDeliveries,
    ListDestinations,
    ListEvents,
    Message,
    OutboundDestination,
    Person,
    PostHogWebhook,
    ProjectReply,
    ProviderRef,
    ProvisionLoop,
    ProvisionReply,
    PurgeDeadLetters,
    PutCredential,
    PutDerived,
    Recorded,
    RecordEvent,
    ReplayDeadLetters,
    ServiceHealth,
    SetPerson,
    TestQueued,
    Timezone,
    TokenReply,
    TokenRequest,
    WebhookSecretReply,
)

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)


class User(StrEnum):
    """The NATS users: one for each service, two for other people's services, one for operators.

    A `subscriber` only reads events and credential changes; a `member` may also report engagement,
    write persons and ask analytics.
    """

    GATEWAY = "gateway"
    CREDENTIALS = "credentials"
    INGEST = "ingest"
    PROVISIONER = "provisioner"
    ANALYTICS = "analytics"
    SUBSCRIBER = "subscriber"
    MEMBER = "member"
    OPERATOR = "operator"


class StreamName(StrEnum):
    """JetStream streams; their limits are in `hogsend.streams`."""

    WEBHOOKS = "WEBHOOKS"
    EVENTS = "EVENTS"
    CREDENTIALS = "CREDENTIALS"
    ENGAGEMENT = "ENGAGEMENT"
    PERSONS = "PERSONS"
    AUDIT = "AUDIT"
    DEADLETTER = "DEADLETTER"


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A published subject: durable in `stream`, written and read by the users named."""

    subject: str
    stream: StreamName
    message: type[msgspec.Struct]
    publishers: tuple[User, ...]
    subscribers: tuple[User, ...]
    summary: str


class Endpoint(msgspec.Struct, Generic[Request, Reply], frozen=True, kw_only=True):
    """A request subject: answered by `service`'s queue group, asked by `callers`."""

    service: User
    verb: str
    request: type[Request]
    reply: type[Reply]
    callers: tuple[User, ...]
    summary: str
    deadline: float = 2.0
    """Seconds the service may take, and a caller waits unless it says otherwise."""

    @property
    def subject(self) -> str:
        """The subject requests are sent to."""
        return subjects.rpc(self.service, self.verb)


DEAD_LETTER_KEEPER = User.INGEST
"""Who lists, replays and purges dead letters, through the `INGEST_*` endpoints below."""

CHANNELS: tuple[Channel, ...] = (
    Channel(
        subject=f"{subjects.WEBHOOKS}.*",
        stream=StreamName.WEBHOOKS,
        message=PostHogWebhook,
        # Ingest replays dead letters, here and on every other subject it may publish to.
        publishers=(User.GATEWAY, User.INGEST),
        subscribers=(User.INGEST,),
        summary="An accepted webhook, body as it came; the last token is the source.",
    ),
    Channel(
        subject=f"{subjects.EVENTS}.*",
        stream=StreamName.EVENTS,
        message=Event,
        publishers=(User.INGEST,),
        subscribers=(User.ANALYTICS, User.SUBSCRIBER, User.MEMBER),
        summary="A normalized event, after it is stored; the last token is its escaped name.",
    ),
    Channel(
        subject=f"{subjects.CREDENTIALS}.*.changed",
        stream=StreamName.CREDENTIALS,
        message=CredentialChanged,
        publishers=(User.CREDENTIALS,),
        subscribers=(
            User.GATEWAY,
            User.PROVISIONER,
            User.ANALYTICS,
            User.SUBSCRIBER,
            User.MEMBER,
        ),
        summary="A provider's credential changed; the last one is kept for late joiners.",
    ),
    Channel(
        subject=f"{subjects.ENGAGEMENT}.>",
        stream=StreamName.ENGAGEMENT,
        message=Engagement,
        publishers=(User.MEMBER, User.INGEST, User.ANALYTICS),
        subscribers=(User.INGEST, User.ANALYTICS),
        summary="Something services did with a person; the last tokens are its type.",
    ),
    Channel(
        subject=subjects.persons("set"),
        stream=StreamName.PERSONS,
        message=SetPerson,
        publishers=(User.MEMBER, User.INGEST),
        subscribers=(User.ANALYTICS,),
        summary="Properties to set on a PostHog person.",
    ),
    Channel(
        subject=subjects.persons("capture"),
        stream=StreamName.PERSONS,
        message=Capture,
        publishers=(User.MEMBER, User.INGEST, User.ANALYTICS),
        subscribers=(User.ANALYTICS,),
        summary="An event to capture in PostHog.",
    ),
    Channel(
        subject=subjects.persons("alias"),
        stream=StreamName.PERSONS,
        message=Alias,
        publishers=(User.MEMBER, User.INGEST),
        subscribers=(User.ANALYTICS,),
        summary="An anonymous id that a PostHog person absorbs.",
    ),
    Channel(
        subject=subjects.AUDIT,
        stream=StreamName.AUDIT,
        message=AuditEntry,
        publishers=(User.GATEWAY, User.INGEST),
        subscribers=(User.INGEST,),
        summary="An administrator's request that may have changed something.",
    ),
    Channel(
        subject=f"{subjects.DEADLETTER}.*",
        stream=StreamName.DEADLETTER,
        message=DeadLetter,
        publishers=(User.INGEST, User.ANALYTICS),
        subscribers=(User.OPERATOR,),
        summary="A message that could not be processed; the last token is its stream.",
    ),
)

CREDENTIALS_PUT = Endpoint(
    service=User.CREDENTIALS,
    verb="put",
    request=PutCredential,
    reply=CredentialMeta,
    callers=(User.GATEWAY,),
    summary="Seal and store a provider's OAuth credential.",
)
CREDENTIALS_GET = Endpoint(
    service=User.CREDENTIALS,
    verb="get",
    request=ProviderRef,
    reply=CredentialMeta,
    callers=(User.GATEWAY,),
    summary="Meta of a stored OAuth credential, never its tokens.",
)
CREDENTIALS_DELETE = Endpoint(
    service=User.CREDENTIALS,
    verb="delete",
    request=ProviderRef,
    reply=Deleted,
    callers=(User.GATEWAY,),
    summary="Delete a provider's credential and what was derived from it.",
)
CREDENTIALS_STATUS = Endpoint(
    service=User.CREDENTIALS,
    verb="status",
    request=ProviderRef,
    reply=CredentialStatus,
    callers=(User.GATEWAY, User.PROVISIONER, User.ANALYTICS),
    summary="What is stored for a provider and whether it can be read.",
)
CREDENTIALS_GET_DERIVED = Endpoint(
    service=User.CREDENTIALS,
    verb="get-derived",
    request=ProviderRef,
    reply=DerivedReply,
    callers=(User.PROVISIONER,),
    summary="The minted webhook secret and the project it belongs to, in clear.",
)
CREDENTIALS_PROJECT = Endpoint(
    service=User.CREDENTIALS,
    verb="project",
    request=ProviderRef,
    reply=ProjectReply,
    callers=(User.ANALYTICS,),
    summary="The stored project and the key that captures into it, without the webhook secret.",
)
CREDENTIALS_PUT_DERIVED = Endpoint(
    service=User.CREDENTIALS,
    verb="put-derived",
    request=PutDerived,
    reply=CredentialStatus,
    callers=(User.PROVISIONER,),
    summary="Seal and store a minted webhook secret and the project it belongs to.",
)
CREDENTIALS_TOKEN = Endpoint(
    service=User.CREDENTIALS,
    verb="token",
    request=TokenRequest,
    reply=TokenReply,
    callers=(User.PROVISIONER, User.ANALYTICS),
    summary="A bearer: OAuth token, refreshed when due, else the personal key, else none.",
    # One refresh that waits for another one: 10 s each.
    deadline=25.0,
)
CREDENTIALS_WEBHOOK_SECRET = Endpoint(
    service=User.CREDENTIALS,
    verb="webhook-secret",
    request=ProviderRef,
    reply=WebhookSecretReply,
    callers=(User.GATEWAY,),
    summary="Digest of the minted webhook secret, for comparison at the gateway.",
)
CREDENTIALS_HEALTH = Endpoint(
    service=User.CREDENTIALS,
    verb="health",
    request=Empty,
    reply=ServiceHealth,
    callers=(User.GATEWAY,),
    summary="Health of one replica.",
)
INGEST_EVENTS = Endpoint(
    service=User.INGEST,
    verb="events",
    request=ListEvents,
    reply=EventPage,
    callers=(User.GATEWAY,),
    summary="A page of stored events.",
)
INGEST_RECORD = Endpoint(
    service=User.INGEST,
    verb="record",
    request=RecordEvent,
    reply=Recorded,
    callers=(User.GATEWAY,),
    summary="Store an event that was reported to Hogsend itself, and announce it.",
    deadline=5.0,
)
INGEST_CONTACT = Endpoint(
    service=User.INGEST,
    verb="contact",
    request=ContactRef,
    reply=Contact,
    callers=(User.ANALYTICS,),
    summary="What is known about a contact.",
)
INGEST_FILL_TIMEZONE = Endpoint(
    service=User.INGEST,
    verb="fill-timezone",
    request=FillTimezone,
    reply=Empty,
    callers=(User.ANALYTICS,),
    summary="Give a contact that has no time zone one.",
)
INGEST_AUDIT = Endpoint(
    service=User.INGEST,
    verb="audit",
    request=ListAudit,
    reply=AuditPage,
    callers=(User.GATEWAY,),
    summary="A page of the audit trail.",
)
INGEST_DEAD_LETTERS = Endpoint(
    service=User.INGEST,
    verb="dead-letters",
    request=ListDeadLetters,
    reply=DeadLetterPage,
    callers=(User.GATEWAY,),
    summary="A page of dead letters.",
    deadline=10.0,
)
INGEST_REPLAY = Endpoint(
    service=User.INGEST,
    verb="replay",
    request=ReplayDeadLetters,
    reply=DeadLettersDone,
    callers=(User.GATEWAY,),
    summary="Put dead letters back on their streams.",
    deadline=60.0,
)
INGEST_PURGE = Endpoint(
    service=User.INGEST,
    verb="purge",
    request=PurgeDeadLetters,
    reply=DeadLettersDone,
    callers=(User.GATEWAY,),
    summary="Forget dead letters.",
    deadline=60.0,
)
INGEST_HEALTH = Endpoint(
    service=User.INGEST,
    verb="health",
    request=Empty,
    reply=ServiceHealth,
    callers=(User.GATEWAY,),
    summary="Health of one replica.",
)

PROVISIONER_PROVISION = Endpoint(
    service=User.PROVISIONER,
    verb="provision",
    request=ProvisionLoop,
    reply=ProvisionReply,
    callers=(User.GATEWAY,),
    summary="Make PostHog deliver its events here; doing it twice changes nothing.",
    deadline=60.0,
)
PROVISIONER_DIAGNOSE = Endpoint(
    service=User.PROVISIONER,
    verb="diagnose",
    request=Empty,
    reply=Diagnosis,
    callers=(User.GATEWAY,),
    summary="What works between this instance and PostHog, and what to do about the rest.",
    deadline=20.0,
)
PROVISIONER_HEALTH = Endpoint(
    service=User.PROVISIONER,
    verb="health",
    request=Empty,
    reply=ServiceHealth,
    callers=(User.GATEWAY,),
    summary="Health of one replica.",
)

ANALYTICS_PERSON = Endpoint(
    service=User.ANALYTICS,
    verb="person",
    request=GetPerson,
    reply=Person,
    callers=(User.MEMBER,),
    summary="A person's properties, from PostHog; empty when they cannot be read.",
    deadline=30.0,
)
ANALYTICS_TIMEZONE = Endpoint(
    service=User.ANALYTICS,
    verb="timezone",
    request=GetTimezone,
    reply=Timezone,
    callers=(User.MEMBER,),
    summary="Somebody's time zone and where it is known from.",
    deadline=30.0,
)
ANALYTICS_CONDITIONS = Endpoint(
    service=User.ANALYTICS,
    verb="conditions",
    request=EvaluateConditions,
    reply=ConditionResults,
    callers=(User.MEMBER,),
    summary="Whether property conditions hold for people.",
    deadline=30.0,
)
ANALYTICS_FLAGS = Endpoint(
    service=User.ANALYTICS,
    verb="flags",
    request=GetFlags,
    reply=Flags,
    callers=(User.MEMBER,),
    summary="Feature flags of a person.",
    deadline=15.0,
)
ANALYTICS_CAPABILITIES = Endpoint(
    service=User.ANALYTICS,
    verb="capabilities",
    request=Empty,
    reply=Capabilities,
    callers=(User.GATEWAY,),
    summary="Which of analytics' capabilities work, and why the others do not.",
    deadline=5.0,
)
ANALYTICS_CREATE_DESTINATION = Endpoint(
    service=User.ANALYTICS,
    verb="create-destination",
    request=CreateDestination,
    reply=OutboundDestination,
    callers=(User.GATEWAY,),
    summary="Make an outbound destination.",
)
ANALYTICS_LIST_DESTINATIONS = Endpoint(
    service=User.ANALYTICS,
    verb="destinations",
    request=ListDestinations,
    reply=DestinationPage,
    callers=(User.GATEWAY,),
    summary="A page of outbound destinations, keys masked.",
)
ANALYTICS_GET_DESTINATION = Endpoint(
    service=User.ANALYTICS,
    verb="destination",
    request=DestinationRef,
    reply=OutboundDestination,
    callers=(User.GATEWAY,),
    summary="One outbound destination, keys masked.",
)
ANALYTICS_CHANGE_DESTINATION = Endpoint(
    service=User.ANALYTICS,
    verb="change-destination",
    request=ChangeDestination,
    reply=OutboundDestination,
    callers=(User.GATEWAY,),
    summary="Change, pause or resume an outbound destination.",
)
ANALYTICS_DELETE_DESTINATION = Endpoint(
    service=User.ANALYTICS,
    verb="delete-destination",
    request=DestinationRef,
    reply=Deleted,
    callers=(User.GATEWAY,),
    summary="Delete an outbound destination.",
)
ANALYTICS_TEST_DESTINATION = Endpoint(
    service=User.ANALYTICS,
    verb="test-destination",
    request=DestinationRef,
    reply=TestQueued,
    callers=(User.GATEWAY,),
    summary="Send a test event to one destination.",
)
ANALYTICS_DELIVERIES = Endpoint(
    service=User.ANALYTICS,
    verb="deliveries",
    request=ListDeliveries,
    reply=DeliveryPage,
    callers=(User.GATEWAY,),
    summary="A destination's delivery history.",
)
ANALYTICS_HEALTH = Endpoint(
    service=User.ANALYTICS,
    verb="health",
    request=Empty,
    reply=ServiceHealth,
    callers=(User.GATEWAY,),
    summary="Health of one replica.",
)

ENDPOINTS = (
    CREDENTIALS_PUT,
    CREDENTIALS_GET,
    CREDENTIALS_DELETE,
    CREDENTIALS_STATUS,
    CREDENTIALS_GET_DERIVED,
    CREDENTIALS_PROJECT,
    CREDENTIALS_PUT_DERIVED,
    CREDENTIALS_TOKEN,
    CREDENTIALS_WEBHOOK_SECRET,
    CREDENTIALS_HEALTH,
    INGEST_EVENTS,
    INGEST_RECORD,
    INGEST_CONTACT,
    INGEST_FILL_TIMEZONE,
    INGEST_AUDIT,
    INGEST_DEAD_LETTERS,
    INGEST_REPLAY,
    INGEST_PURGE,
    INGEST_HEALTH,
    PROVISIONER_PROVISION,
    PROVISIONER_DIAGNOSE,
    PROVISIONER_HEALTH,
    ANALYTICS_PERSON,
    ANALYTICS_TIMEZONE,
    ANALYTICS_CONDITIONS,
    ANALYTICS_FLAGS,
    ANALYTICS_CAPABILITIES,
    ANALYTICS_CREATE_DESTINATION,
    ANALYTICS_LIST_DESTINATIONS,
    ANALYTICS_GET_DESTINATION,
    ANALYTICS_CHANGE_DESTINATION,
    ANALYTICS_DELETE_DESTINATION,
    ANALYTICS_TEST_DESTINATION,
    ANALYTICS_DELIVERIES,
    ANALYTICS_HEALTH,
)
