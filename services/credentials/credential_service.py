"""Stores credentials, and describes them without their tokens.

A call that changes a credential returns only after JetStream has acknowledged the change's event.
Without NATS the call fails, but the change stays stored, and the relay publishes it later.
"""

from __future__ import annotations

import hashlib

import structlog

from hogsend.contract.credentials import (
    CredentialMeta,
    CredentialStatus,
    DerivedPayload,
    DerivedReply,
    OAuthPayload,
    ProjectReply,
    SigningSecretReply,
    WebhookSecretReply,
)
from hogsend.contract.errors import CannotUnseal, GrantReplaced, InvalidRequest, NotFound
from hogsend.posthog.hosts import host_of_token_endpoint
from hogsend.service.ssrf import EgressPolicy
from hogsend.urls import has_password, is_absolute_url, is_loopback
from services.credentials.change_relay import ChangeRelay
from services.credentials.payload_sealer import PayloadSealer
from services.credentials.provisioned_project import drop_other_project
from services.credentials.records import RefreshState, Rows, Saved, SealedRow
from services.credentials.store import CredentialStore

log = structlog.get_logger(__name__)


class CredentialService:
    """Credentials of all providers, sealed at rest."""

    def __init__(
        self,
        store: CredentialStore,
        sealer: PayloadSealer,
        relay: ChangeRelay,
        egress: EgressPolicy,
        *,
        personal_key: bool,
    ) -> None:
        """Manage the credentials in `store`.

        Args:
            store: the sealed rows.
            sealer: seals and unseals payloads.
            relay: publishes changes.
            egress: the hosts at which a grant may be refreshed.
            personal_key: whether `POSTHOG_PERSONAL_API_KEY` is set.
        """
        self._store = store
        self._sealer = sealer
        self._relay = relay
        self._egress = egress
        self._personal_key = personal_key

    async def put_oauth(self, provider: str, payload: OAuthPayload) -> CredentialMeta:
        """Store an OAuth grant. It replaces the stored one, even if that is unreadable.

        A stored project that belongs to the replaced grant and not to the new one is deleted.

        Raises:
            InvalidRequest: the token endpoint, the client id or the access token is invalid.
            Unavailable: the grant could not be stored, or its change could not be published.
        """
        _check(payload, self._egress)
        saved = await self._replace_grant(provider, payload)
        await self._relay.announce(provider, saved.change)
        return _meta(provider, payload, saved.row, None)

    async def put_derived(
        self, provider: str, payload: DerivedPayload, generation: int | None = None
    ) -> CredentialStatus:
        """Store the derived payload as a whole.

        Args:
            provider: the provider of the payload.
            payload: replaces the stored derived payload.
            generation: generation of the grant that the payload was derived with; None to store it
                with any grant.

        Raises:
            GrantReplaced: a grant of another generation is stored.
            Unavailable: the payload could not be stored, or its change could not be published.
        """
        sealed = self._sealer.seal(payload)
        if generation is None:
            saved: Saved | None = await self._store.save(provider, "derived", sealed)
        else:
            saved = await self._store.save_derived(provider, sealed, generation=generation)
        if saved is None:
            raise GrantReplaced("another grant was connected meanwhile, or this one deleted")
        await self._relay.announce(provider, saved.change)
        return await self.status(provider)

    async def derived(self, provider: str) -> DerivedReply:
        """Return the derived payload unsealed."""
        stored = await self._store.load(provider)
        derived = self._sealer.derived(stored.rows)
        return DerivedReply(version=stored.version, state=derived.state, payload=derived.payload)

    async def project(self, provider: str) -> ProjectReply:
        """Return the connected project and its key, without the webhook secret."""
        stored = await self._store.load(provider)
        derived = self._sealer.derived(stored.rows)
        payload = derived.payload or DerivedPayload()
        return ProjectReply(
            version=stored.version,
            state=derived.state,
            project_api_key=payload.project_api_key,
            project_id=payload.project_id,
            private_host=payload.private_host,
            grant_origin=self._grant_origin(stored.rows),
            connected_at=stored.connected_at if "oauth" in stored.rows else None,
        )

    async def meta(self, provider: str) -> CredentialMeta:
        """Describe the stored OAuth grant.

        Raises:
            NotFound: no OAuth grant is stored.
            CannotUnseal: no configured secret unseals the stored grant.
        """
        stored = await self._store.load(provider)
        row = stored.rows.get("oauth")
        if row is None:
            raise NotFound("Provider credential not found")
        try:
            payload = self._sealer.unseal(row, OAuthPayload)
        except CannotUnseal as error:
            raise CannotUnseal(
                f"The stored credential for {provider} cannot be decrypted. BETTER_AUTH_SECRET was "
                f"probably rotated: name the old one in BETTER_AUTH_SECRET_PREVIOUS, or DELETE "
                f"this credential and run `hogsend connect {provider}` again."
            ) from error
        return _meta(provider, payload, row, stored.refresh)

    async def delete(self, provider: str) -> None:
        """Delete the grant and everything derived from it, readable or not.

        Raises:
            NotFound: nothing is stored.
            Unavailable: nothing could be deleted, or the change could not be published.
        """
        if not await self._store.delete(provider):
            raise NotFound("Provider credential not found")
        await self._relay.relay(provider)

    async def status(self, provider: str) -> CredentialStatus:
        """Report what is stored, and whether refreshing works."""
        stored = await self._store.load(provider)
        grant = self._sealer.grant(stored.rows)
        refresh = stored.refresh
        return CredentialStatus(
            version=stored.version,
            oauth=grant.state,
            scopes=grant.payload.scopes if grant.payload else [],
            webhook_secret=self._secret(stored.rows, stored.version).state,
            expires_at=grant.payload.expires_at if grant.payload else None,
            needs_reconnect=refresh is not None and refresh.needs_reconnect,
            refresh_error=refresh.reason if refresh is not None else None,
            personal_key=self._personal_key,
            generation=stored.generation,
        )

    async def webhook_secret(self, provider: str) -> WebhookSecretReply:
        """Return the digest of the generated webhook secret."""
        stored = await self._store.load(provider)
        return self._secret(stored.rows, stored.version)

    async def signing_secret(self, provider: str) -> SigningSecretReply:
        """Return the generated keys that deliveries may be signed with."""
        stored = await self._store.load(provider)
        derived = self._sealer.derived(stored.rows)
        payload = derived.payload or DerivedPayload()
        if derived.state == "present" and not (
            payload.signing_secret or payload.signing_secret_previous
        ):
            return SigningSecretReply(version=stored.version, state="absent")
        return SigningSecretReply(
            version=stored.version,
            state=derived.state,
            secret=payload.signing_secret,
            previous=payload.signing_secret_previous,
            previous_until=payload.signing_previous_until,
        )

    async def _replace_grant(self, provider: str, grant: OAuthPayload) -> Saved:
        sealed = self._sealer.seal(grant)
        while True:
            stored = await self._store.load(provider)
            derived = self._sealer.derived(stored.rows).payload
            before = self._sealer.grant(stored.rows).payload
            kept = derived and drop_other_project(derived, grant, before)
            is_dropped = kept is not None and kept != derived
            saved = await self._store.save_grant(
                provider,
                sealed,
                self._sealer.seal(kept) if kept is not None and is_dropped else None,
                version=stored.version,
            )
            if saved is None:
                continue
            if is_dropped:
                log.info("the stored project was deleted: it does not belong to the new grant")
            return saved

    def _grant_origin(self, rows: Rows) -> str | None:
        grant = self._sealer.grant(rows).payload
        return host_of_token_endpoint(grant.token_endpoint) if grant else None

    def _secret(self, rows: Rows, version: int) -> WebhookSecretReply:
        derived = self._sealer.derived(rows)
        secret = derived.payload.webhook_secret if derived.payload else None
        if derived.state == "present" and not secret:
            return WebhookSecretReply(version=version, state="absent")
        payload = derived.payload or DerivedPayload()
        return WebhookSecretReply(
            version=version,
            state=derived.state,
            sha256=_digest(secret),
            previous_sha256=_digest(payload.webhook_secret_previous),
            previous_until=payload.webhook_previous_until,
        )


def _digest(secret: str | None) -> str | None:
    return hashlib.sha256(secret.encode()).hexdigest() if secret else None


def _meta(
    provider: str, payload: OAuthPayload, row: SealedRow, refresh: RefreshState | None
) -> CredentialMeta:
    return CredentialMeta(
        provider_id=provider,
        kind="oauth",
        scopes=payload.scopes,
        expires_at=payload.expires_at,
        scoped_teams=payload.scoped_teams,
        created_at=row.created_at,
        updated_at=row.updated_at,
        needs_reconnect=refresh is not None and refresh.needs_reconnect,
    )


def _check(payload: OAuthPayload, egress: EgressPolicy) -> None:
    if not (payload.access_token.isascii() and payload.access_token.isprintable()):
        raise InvalidRequest(
            "payload.accessToken has characters that an HTTP header does not carry; send it as "
            "PostHog gave it"
        )
    # The refresh token is sent to this URL: a request must not be able to have it sent unencrypted.
    endpoint = payload.token_endpoint
    if not is_absolute_url(endpoint):
        raise InvalidRequest("payload.tokenEndpoint must be an absolute URL")
    if has_password(endpoint):
        raise InvalidRequest("payload.tokenEndpoint must not carry a user or password")
    is_https = endpoint.startswith("https://")
    is_http_allowed = endpoint.startswith("http://") and (
        is_loopback(endpoint) or egress.names(endpoint)
    )
    if not (is_https or is_http_allowed):
        raise InvalidRequest(
            "payload.tokenEndpoint must be https; http only on this machine, at the host of "
            "POSTHOG_HOST or POSTHOG_PRIVATE_HOST, or at one in OUTBOUND_ALLOW"
        )
    egress.check(endpoint, "payload.tokenEndpoint")
    if not is_absolute_url(payload.client_id):
        raise InvalidRequest("payload.clientId must be an absolute URL")
