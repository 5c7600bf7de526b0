"""Credentials: requests about stored credentials, and the event that publishes a change."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Message, one_of
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
    """An OAuth grant as the CLI stores it (contract 1.3). Sealed at rest, key for key."""

    access_token: NonEmpty
    refresh_token: NonEmpty
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)]
    token_endpoint: str
    client_id: str
    scopes: list[str] = []
    scoped_teams: list[int] = []
    scoped_organizations: list[str] = []

    def __repr__(self) -> str:
        """Name the grant without its tokens, so that no log or traceback can carry them."""
        return f"OAuthPayload(scopes={self.scopes!r}, expires_at={self.expires_at!r})"


class DerivedPayload(Message, frozen=True, omit_defaults=True):
    """What Hogsend derived for a provider: a minted secret, and the project it belongs to."""

    webhook_secret: str | None = None
    """Carried by deliveries, unless the operator set one."""
    webhook_secret_previous: str | None = None
    """The one before it, which deliveries may still carry."""
    webhook_previous_until: datetime | None = None
    """Until when; None as long as PostHog may not have the present one."""
    project_api_key: str | None = None
    project_id: str | None = None
    private_host: str | None = None
    signing_secret: str | None = None
    """Key that PostHog signs deliveries with, unless the operator set one."""
    signing_secret_previous: str | None = None
    """The one before it, with which deliveries may still be signed."""
    signing_previous_until: datetime | None = None
    """Until when; None as long as PostHog may not have the present one."""

    def __repr__(self) -> str:
        """Name the kind only: half of the fields are secrets."""
        return "DerivedPayload(...)"


class ProviderRef(Message, frozen=True):
    """A provider, such as `posthog`."""

    provider_id: ProviderId


def token_digest(token: str) -> str:
    """SHA-256 of a token, in hex: how one that was refused is named without repeating it."""
    return hashlib.sha256(token.encode()).hexdigest()


class TokenRequest(ProviderRef, frozen=True):
    """Ask for a bearer."""

    rejected_sha256: str | None = None
    """Hex digest of a token that PostHog rejected: it is refreshed instead of returned again."""


class PutCredential(Message, frozen=True):
    """Store or replace a provider's OAuth credential."""

    provider_id: ProviderId
    payload: OAuthPayload


class PutDerived(Message, frozen=True):
    """Store or replace the derived payload as a whole; merging is the caller's job."""

    provider_id: ProviderId
    payload: DerivedPayload
    generation: int | None = None
    """Of the grant that it was derived with, as `TokenReply` has it: it is stored beside no other
    one. None, as from the version before, stores it beside any."""


class DerivedReply(Message, frozen=True):
    """The derived payload, for the one service that puts the secret into PostHog."""

    version: int
    state: SecretState
    payload: DerivedPayload | None = None
    """Only with `present`."""


class ProjectReply(Message, frozen=True):
    """The connected project, for the service that captures into it."""

    version: int
    state: SecretState
    project_api_key: str | None = None
    project_id: str | None = None
    private_host: str | None = None
    grant_origin: str | None = None
    """The PostHog that refreshes the stored OAuth grant, with the path that it is below: the app
    host, when nothing else says which."""
    connected_at: datetime | None = None
    """When the stored OAuth grant was connected; None where there is none, or it is not known."""

    def __repr__(self) -> str:
        """Name the project, never its key."""
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
    """PostHog refused the refresh token for good (`invalid_grant`)."""


class Deleted(Message, frozen=True):
    """The credential and everything derived from it are gone."""

    deleted: Literal[True] = True


class CredentialStatus(Message, frozen=True):
    """What is stored for a provider, and whether it works. Never a secret."""

    version: int
    oauth: SecretState
    scopes: list[str]
    webhook_secret: SecretState
    expires_at: datetime | None = None
    """When the stored access token expires."""
    needs_reconnect: bool = False
    """PostHog refused the refresh token for good (`invalid_grant`)."""
    refresh_error: str | None = None
    """Why the last refresh failed; None after one that worked."""
    personal_key: bool = False
    """Whether `POSTHOG_PERSONAL_API_KEY` is there to fall back to."""
    generation: int | None = None
    """As in `TokenReply`."""


class WebhookSecretReply(Message, frozen=True):
    """Digest of the minted webhook secret, for the gateway.

    The secret itself stays sealed. The gateway compares SHA-256 digests, which is as strong for 32
    random bytes and leaves nothing to leak.
    """

    version: int
    state: SecretState
    sha256: str | None = None
    """Lower-case hex digest of the UTF-8 secret; only with `present`."""
    previous_sha256: str | None = None
    """That of the secret before it, where deliveries may still carry it."""
    previous_until: datetime | None = None
    """Until when; None as long as PostHog may not have the present one."""


class SigningSecretReply(Message, frozen=True):
    """The minted keys that deliveries may be signed with, for the gateway.

    In clear: a signature cannot be checked with a digest of its key.
    """

    version: int
    state: SecretState
    secret: str | None = None
    """Only with `present`."""
    previous: str | None = None
    previous_until: datetime | None = None
    """When `previous` ends; None as long as PostHog may not have `secret`."""

    def __repr__(self) -> str:
        """Tell the state, never a key."""
        return f"SigningSecretReply(version={self.version!r}, state={self.state!r})"


class ProvisionedProject(Message, frozen=True):
    """The project the destination was provisioned in."""

    id: str
    private_host: str
    """The PostHog it belongs to."""


class TokenReply(Message, frozen=True):
    """A bearer for PostHog's private API: the OAuth grant, else the personal key, else none."""

    source: Literal["oauth", "personal_key", "none"]
    version: int
    token: str | None = None
    expires_at: datetime | None = None
    """None for a personal key, which does not expire."""
    scoped_teams: list[int] = []
    """Projects the stored grant is restricted to; empty when it is not, or there is none."""
    provisioned_project: ProvisionedProject | None = None
    not_refreshed: str | None = None
    """Why there is no token of the stored grant at the moment, though there will be one again: the
    personal key, or none, stands in. None where no grant is stored or only connecting again helps,
    and from the version before."""
    generation: int | None = None
    """Grows when a grant is connected or deleted, and stays when it is refreshed. None when it is
    not known, as from the version before."""

    def __repr__(self) -> str:
        """Name the source, never the token."""
        return f"TokenReply(source={self.source!r}, version={self.version!r})"


class CredentialChanged(Message, frozen=True):
    """A provider's credential changed. Metadata only: drop what you cached and ask again."""

    provider: str
    version: int
    """Grows with every change of this provider, deletions included."""
    change: Annotated[str, one_of(Change)]
    """Take one that you do not know like every other: drop what you cached."""
    kinds: list[Annotated[str, one_of(Kind)]]
    """Kinds stored now; empty after a deletion."""
    changed_kinds: list[Annotated[str, one_of(Kind)]]
    scopes: list[str]
    expires_at: datetime | None
    changed_at: datetime


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
    summary="A provider's credential changed; the last one is kept for late joiners.",
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
    summary="Meta of a stored OAuth credential, never its tokens.",
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
    summary="The minted webhook secret and the project it belongs to, in clear.",
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
    summary="Seal and store a minted webhook secret and the project it belongs to.",
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
    summary="A bearer: OAuth token, refreshed when due, else the personal key, else none.",
    # One refresh that waits for another one: 10 s each.
    deadline=25.0,
    holds_secret=True,
)
CREDENTIALS_WEBHOOK_SECRET = Endpoint(
    service=User.CREDENTIALS,
    verb="webhook-secret",
    request=ProviderRef,
    reply=WebhookSecretReply,
    callers=(User.GATEWAY,),
    summary="Digest of the minted webhook secret, for comparison at the gateway.",
)
CREDENTIALS_SIGNING_SECRET = Endpoint(
    service=User.CREDENTIALS,
    verb="signing-secret",
    request=ProviderRef,
    reply=SigningSecretReply,
    callers=(User.GATEWAY,),
    summary="The minted keys that PostHog signs deliveries with, to verify them at the gateway.",
    holds_secret=True,
)
