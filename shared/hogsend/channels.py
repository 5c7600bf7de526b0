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
    CredentialChanged,
    CredentialMeta,
    CredentialStatus,
    DeadLetter,
    Deleted,
    DerivedReply,
    Diagnosis,
    Empty,
    Event,
    EventPage,
    ListEvents,
    Message,
    PostHogWebhook,
    ProviderRef,
    ProvisionLoop,
    ProvisionReply,
    PutCredential,
    PutDerived,
    ServiceHealth,
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


CHANNELS: tuple[Channel, ...] = (
    Channel(
        subject=f"{subjects.WEBHOOKS}.*",
        stream=StreamName.WEBHOOKS,
        message=PostHogWebhook,
        publishers=(User.GATEWAY,),
        subscribers=(User.INGEST,),
        summary="An accepted webhook, body as it came; the last token is the source.",
    ),
    Channel(
        subject=f"{subjects.EVENTS}.*",
        stream=StreamName.EVENTS,
        message=Event,
        publishers=(User.INGEST,),
        subscribers=(User.SUBSCRIBER,),
        summary="A normalized event, after it is stored; the last token is its escaped name.",
    ),
    Channel(
        subject=f"{subjects.CREDENTIALS}.*.changed",
        stream=StreamName.CREDENTIALS,
        message=CredentialChanged,
        publishers=(User.CREDENTIALS,),
        subscribers=(User.GATEWAY, User.PROVISIONER, User.SUBSCRIBER),
        summary="A provider's credential changed; the last one is kept for late joiners.",
    ),
    Channel(
        subject=f"{subjects.DEADLETTER}.*",
        stream=StreamName.DEADLETTER,
        message=DeadLetter,
        publishers=(User.INGEST,),
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
    callers=(User.GATEWAY, User.PROVISIONER),
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
    callers=(User.PROVISIONER,),
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

ENDPOINTS = (
    CREDENTIALS_PUT,
    CREDENTIALS_GET,
    CREDENTIALS_DELETE,
    CREDENTIALS_STATUS,
    CREDENTIALS_GET_DERIVED,
    CREDENTIALS_PUT_DERIVED,
    CREDENTIALS_TOKEN,
    CREDENTIALS_WEBHOOK_SECRET,
    CREDENTIALS_HEALTH,
    INGEST_EVENTS,
    INGEST_HEALTH,
    PROVISIONER_PROVISION,
    PROVISIONER_DIAGNOSE,
    PROVISIONER_HEALTH,
)
