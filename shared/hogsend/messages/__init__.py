"""Every message on the bus: frozen msgspec Structs, camelCase JSON on the wire."""

from hogsend.messages.base import Empty, Message, Properties
from hogsend.messages.credentials import (
    CredentialChanged,
    CredentialMeta,
    CredentialStatus,
    Deleted,
    DerivedPayload,
    DerivedReply,
    OAuthPayload,
    ProviderRef,
    PutCredential,
    PutDerived,
    TokenReply,
    TokenRequest,
    WebhookSecretReply,
)
from hogsend.messages.deadletter import DeadLetter
from hogsend.messages.events import Event, EventPage, ListEvents, StoredEvent
from hogsend.messages.health import DependencyHealth, SchemaHealth, ServiceHealth
from hogsend.messages.provisioning import (
    Destination,
    Diagnosis,
    Provisioned,
    ProvisionLoop,
    ProvisionReply,
    Refusal,
)
from hogsend.messages.webhooks import PostHogEvent, PostHogWebhook

__all__ = [
    "CredentialChanged",
    "CredentialMeta",
    "CredentialStatus",
    "DeadLetter",
    "Deleted",
    "DependencyHealth",
    "DerivedPayload",
    "DerivedReply",
    "Destination",
    "Diagnosis",
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
    "ProvisionLoop",
    "ProvisionReply",
    "Provisioned",
    "PutCredential",
    "PutDerived",
    "Refusal",
    "SchemaHealth",
    "ServiceHealth",
    "StoredEvent",
    "TokenReply",
    "TokenRequest",
    "WebhookSecretReply",
]
