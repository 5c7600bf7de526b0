"""Every message on the bus: frozen msgspec Structs, camelCase JSON on the wire."""

from hogsend.messages.base import Empty, Message, Properties
from hogsend.messages.credentials import (
    CredentialChanged,
    CredentialMeta,
    CredentialStatus,
    Deleted,
    DerivedPayload,
    OAuthPayload,
    ProviderRef,
    PutCredential,
    PutDerived,
    TokenReply,
    WebhookSecretReply,
)
from hogsend.messages.deadletter import DeadLetter
from hogsend.messages.events import Event, EventPage, ListEvents, StoredEvent
from hogsend.messages.health import DependencyHealth, SchemaHealth, ServiceHealth
from hogsend.messages.webhooks import PostHogEvent, PostHogWebhook

__all__ = [
    "CredentialChanged",
    "CredentialMeta",
    "CredentialStatus",
    "DeadLetter",
    "Deleted",
    "DependencyHealth",
    "DerivedPayload",
    "Empty",
    "Event",
    "EventPage",
    "ListEvents",
    "Message",
    "OAuthPayload",
    "PostHogEvent",
    "PostHogWebhook",
    "Properties",
    "ProviderRef",
    "PutCredential",
    "PutDerived",
    "SchemaHealth",
    "ServiceHealth",
    "StoredEvent",
    "TokenReply",
    "WebhookSecretReply",
]
