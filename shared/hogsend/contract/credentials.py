"""Credentials: requests about stored credentials, and the event that announces a change."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Message, open_enum
from hogsend.contract.registry import Channel, Endpoint
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User

Kind = Literal["oauth", "derived"]
SecretState = Literal["present", "absent", "unreadable"]
Change = Literal["stored", "refreshed", "deleted"]
NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
ProviderId = Annotated[
    str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)")
]

POSTHOG = "posthog"
"""The provider whose credential `hogsend connect posthog` stores."""


class OAuthPayload(Message, frozen=True):
    """An OAuth grant as the command line stores it (contract 1.3). It is encrypted at rest."""

    access_token: NonEmpty
    refresh_token: NonEmpty
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)]
    token_endpoint: str
    client_id: str
    scopes: list[str] = []
    scoped_teams: list[int] = []
    scoped_organizations: list[str] = []

    def __repr__(self) -> str:
        """Hide the tokens, so that no log or traceback contains them."""
        return f"OAuthPayload(scopes={self.scopes!r}, expires_at={self.expires_at!r})"


class DerivedPayload(Message, frozen=True, omit_defaults=True):
    """Values that Hogsend derived for a provider: generated secrets, and the connected project."""

    webhook_secret: str | None = None
    """Secret that deliveries carry, unless the operator set one."""
    webhook_secret_previous: str | None = None
    """The previous secret, which deliveries may still carry."""
    webhook_previous_until: datetime | None = None
    """When the previous secret expires; None while PostHog may not have the present one yet."""
    project_api_key: str | None = None
    """Key that captures events into the project."""
    project_id: str | None = None
    private_host: str | None = None
    """App host of the PostHog that the project belongs to."""
    signing_secret: str | None = None
    """Key that PostHog signs deliveries with, unless the operator set one."""
    signing_secret_previous: str | None = None
    """The previous key, with which deliveries may still be signed."""
    signing_previous_until: datetime | None = None
    """When the previous key expires; None while PostHog may not have the present one yet."""

    def __repr__(self) -> str:
        """Hide all fields: half of them are secrets."""
        return "DerivedPayload(...)"


class ProviderRef(Message, frozen=True):
    """A provider, such as `posthog`."""

    provider_id: ProviderId


def token_digest(token: str) -> str:
    """SHA-256 of a token in hex, which identifies a rejected token without revealing it."""
    return hashlib.sha256(token.encode()).hexdigest()


class TokenRequest(ProviderRef, frozen=True):
    """Request a bearer token."""

    rejected_sha256: str | None = None
    """Hex digest of a token that PostHog rejected. That token is refreshed, not returned again."""


class PutCredential(Message, frozen=True):
    """Store or replace a provider's OAuth credential."""

    provider_id: ProviderId
    payload: OAuthPayload


class PutDerived(Message, frozen=True):
    """Store or replace the derived payload as a whole. The caller has to merge it."""

    provider_id: ProviderId
    payload: DerivedPayload
    generation: int | None = None
    """`generation` of the grant with which the payload was derived (see `TokenReply`). The request
    is refused if another grant is stored by now. None, which the previous version sends, skips
    this check."""


class DerivedReply(Message, frozen=True):
    """The derived payload, for the provisioner, which puts the secrets into PostHog."""

    version: int
    """Version of the credential; see `CredentialChanged`."""
    state: SecretState
    payload: DerivedPayload | None = None
    """Only set if `state` is `present`."""


class ProjectReply(Message, frozen=True):
    """The connected project, for analytics, which captures into it."""

    version: int
    """Version of the credential; see `CredentialChanged`."""
    state: SecretState
    project_api_key: str | None = None
    """Key that captures events into the project."""
    project_id: str | None = None
    private_host: str | None = None
    """App host of the PostHog that the project belongs to."""
    grant_origin: str | None = None
    """Base URL of the PostHog that the grant's token endpoint belongs to, with its path if it has
    one. It is used as the app host if `private_host` is not set."""
    connected_at: datetime | None = None
    """When the stored OAuth grant was connected; None without a grant, or if it is unknown."""

    def __repr__(self) -> str:
        """Hide the project's key."""
        return f"ProjectReply(state={self.state!r}, project_id={self.project_id!r})"


class CredentialMeta(Message, frozen=True):
    """The public part of a stored credential: no token, endpoint or client id."""

    provider_id: str
    kind: Literal["oauth"]
    scopes: list[str]
    expires_at: datetime
    scoped_teams: list[int]
    created_at: datetime
    updated_at: datetime
    needs_reconnect: bool = False
    """Whether PostHog refused the refresh token permanently (`invalid_grant`)."""


class Deleted(Message, frozen=True):
    """The resource was deleted; of a credential also everything derived from it."""

    # Without a default, so that the `{}` of another server is not read as success.
    deleted: Literal[True]


class CredentialStatus(Message, frozen=True):
    """What is stored for a provider, and whether it works. Contains no secret."""

    version: int
    oauth: SecretState
    scopes: list[str]
    webhook_secret: SecretState
    expires_at: datetime | None = None
    """When the stored access token expires."""
    needs_reconnect: bool = False
    """Whether PostHog refused the refresh token permanently (`invalid_grant`)."""
    refresh_error: str | None = None
    """Why the last refresh failed; None if it succeeded."""
    personal_key: bool = False
    """Whether `POSTHOG_PERSONAL_API_KEY` is set, which is used without a working grant."""
    generation: int | None = None
    """See `TokenReply`."""


class WebhookSecretReply(Message, frozen=True):
    """Digest of the generated webhook secret, for the gateway.

    The secret itself stays sealed. The gateway compares SHA-256 digests, which for 32 random bytes
    is as secure, and nothing secret can leak from it.
    """

    version: int
    """Version of the credential; see `CredentialChanged`."""
    state: SecretState
    sha256: str | None = None
    """Lower-case hex digest of the UTF-8 secret. Only set if `state` is `present`."""
    previous_sha256: str | None = None
    """Digest of the previous secret, if deliveries may still carry it."""
    previous_until: datetime | None = None
    """When the previous secret expires; None while PostHog may not have the present one yet."""


class SigningSecretReply(Message, frozen=True):
    """The generated keys that deliveries may be signed with, for the gateway.

    They are in clear, because a digest of a key cannot verify a signature.
    """

    version: int
    """Version of the credential; see `CredentialChanged`."""
    state: SecretState
    secret: str | None = None
    """The present key. Only set if `state` is `present`."""
    previous: str | None = None
    """The previous key, if deliveries may still be signed with it."""
    previous_until: datetime | None = None
    """When the previous key expires; None while PostHog may not have the present one yet."""

    def __repr__(self) -> str:
        """Hide the keys."""
        return f"SigningSecretReply(version={self.version!r}, state={self.state!r})"


class ProvisionedProject(Message, frozen=True):
    """The PostHog project that Hogsend's destination was provisioned in."""

    id: str
    private_host: str
    """App host of the PostHog that the project belongs to."""


class TokenReply(Message, frozen=True):
    """A bearer token for PostHog's private API: of the OAuth grant, else the personal key."""

    source: Literal["oauth", "personal_key", "none"]
    version: int
    """Version of the credential; see `CredentialChanged`."""
    token: str | None = None
    expires_at: datetime | None = None
    """When the token expires; None for a personal key, which does not expire."""
    scoped_teams: list[int] = []
    """Ids of the projects that the stored grant is restricted to; empty without a restriction."""
    provisioned_project: ProvisionedProject | None = None
    not_refreshed: str | None = None
    """Why the stored grant has no valid token at present, although a later refresh may succeed.

    Meanwhile `token` is the personal key, or None. Not set without a stored grant, where only
    connecting again helps, and by the previous version.
    """
    generation: int | None = None
    """Number of the stored grant. It grows when a grant is connected or deleted, but not when it is
    refreshed. None if unknown, as from the previous version."""

    def __repr__(self) -> str:
        """Hide the token."""
        return f"TokenReply(source={self.source!r}, version={self.version!r})"


class CredentialChanged(Message, frozen=True):
    """A provider's credential changed: drop what you cached of it, and request it again.

    The message holds metadata only, no secret.
    """

    provider: str
    """The provider whose credential changed, such as `posthog`."""
    version: int
    """Grows with every change of this provider's credential, deletions included."""
    change: Annotated[str, open_enum(Change)]
    """What happened. Treat an unknown value like the others: drop what you cached."""
    kinds: list[Annotated[str, open_enum(Kind)]]
    """Kinds of credential that are stored now; empty after a deletion."""
    changed_kinds: list[Annotated[str, open_enum(Kind)]]
    """Kinds of credential that this change affected."""
    scopes: list[str]
    """OAuth scopes of the stored grant."""
    expires_at: datetime | None
    """When the stored access token expires."""
    changed_at: datetime
    """When the credential changed."""


CREDENTIAL_CHANGED = Channel(
    subject=f"{subjects.CREDENTIALS}.*.changed",
    parameter="provider",
    stream=StreamName.CREDENTIALS,
    message=CredentialChanged,
    publishers=(User.CREDENTIALS,),
    subscribers=(
        User.GATEWAY,
        User.PROVISIONER,
        User.ANALYTICS,
        User.SUBSCRIBER,
        User.APP,
    ),
    summary="A provider's credential changed; the stream keeps the last change of each provider.",
)
CREDENTIALS_PUT = Endpoint(
    service=User.CREDENTIALS,
    verb="put",
    request=PutCredential,
    reply=CredentialMeta,
    callers=(User.GATEWAY,),
    summary="Seal and store a provider's OAuth credential.",
    holds_secret=True,
    changes=True,
    resource="provider_id",
)
CREDENTIALS_GET = Endpoint(
    service=User.CREDENTIALS,
    verb="get",
    request=ProviderRef,
    reply=CredentialMeta,
    callers=(User.GATEWAY,),
    summary="Metadata of a stored OAuth credential, without its tokens.",
)
CREDENTIALS_DELETE = Endpoint(
    service=User.CREDENTIALS,
    verb="delete",
    request=ProviderRef,
    reply=Deleted,
    callers=(User.GATEWAY,),
    summary="Delete a provider's credential and what was derived from it.",
    changes=True,
    resource="provider_id",
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
    summary="The generated webhook secret and the project it belongs to, in clear.",
    holds_secret=True,
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
    summary="Seal and store a generated webhook secret and the project it belongs to.",
    holds_secret=True,
    changes=True,
    resource="provider_id",
)
CREDENTIALS_TOKEN = Endpoint(
    service=User.CREDENTIALS,
    verb="token",
    request=TokenRequest,
    reply=TokenReply,
    callers=(User.PROVISIONER, User.ANALYTICS),
    summary="A bearer token: OAuth, refreshed when due, else the personal key, else none.",
    # A refresh may have to wait for another one; each takes up to 10 s.
    deadline=25.0,
    holds_secret=True,
)
CREDENTIALS_WEBHOOK_SECRET = Endpoint(
    service=User.CREDENTIALS,
    verb="webhook-secret",
    request=ProviderRef,
    reply=WebhookSecretReply,
    callers=(User.GATEWAY,),
    summary="Digest of the generated webhook secret, with which the gateway checks deliveries.",
)
CREDENTIALS_SIGNING_SECRET = Endpoint(
    service=User.CREDENTIALS,
    verb="signing-secret",
    request=ProviderRef,
    reply=SigningSecretReply,
    callers=(User.GATEWAY,),
    summary="The generated keys that PostHog signs deliveries with, to verify them at the gateway.",
    holds_secret=True,
)
