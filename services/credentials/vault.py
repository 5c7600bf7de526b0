"""What may be stored for a provider and what may be said of it: sealing, meta, token, digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Literal, TypeVar

import msgspec
import structlog
from prometheus_client import Counter

from hogsend.errors import CannotUnseal, InvalidRequest, NotFound
from hogsend.messages import (
    CredentialMeta,
    CredentialStatus,
    DerivedPayload,
    DerivedReply,
    OAuthPayload,
    TokenReply,
    WebhookSecretReply,
)
from hogsend.messages.credentials import Kind
from hogsend.posthog.hosts import is_absolute_url, is_loopback
from hogsend.sealing import Sealer
from services.credentials.store import CredentialStore, Rows, SealedRow

log = structlog.get_logger(__name__)

UNREADABLE = Counter("hogsend_credentials_unreadable", "Rows that could not be unsealed", ["kind"])

Payload = TypeVar("Payload", OAuthPayload, DerivedPayload)


@dataclass(frozen=True)
class Reading(Generic[Payload]):
    """Outcome of reading a row: its payload only when `state` is present."""

    state: Literal["present", "absent", "unreadable"]
    payload: Payload | None = None


class Vault:
    """Credentials of all providers, sealed at rest."""

    def __init__(self, store: CredentialStore, sealer: Sealer, personal_key: str | None) -> None:
        """Combine the rows, the sealing secret and the fallback bearer."""
        self._store = store
        self._sealer = sealer
        self._personal_key = personal_key
        self._reported: set[tuple[str, datetime]] = set()

    async def put_oauth(self, provider: str, payload: OAuthPayload) -> CredentialMeta:
        """Store an OAuth grant, replacing any before it without reading it.

        Raises:
            InvalidRequest: the token endpoint or client id must not be used.
        """
        _check_endpoints(payload)
        row = await self._store.save(provider, "oauth", self._seal(payload))
        return _meta(provider, payload, row)

    async def put_derived(self, provider: str, payload: DerivedPayload) -> CredentialStatus:
        """Store the derived payload as a whole."""
        await self._store.save(provider, "derived", self._seal(payload))
        return await self.status(provider)

    async def derived(self, provider: str) -> DerivedReply:
        """Give the derived payload in clear."""
        stored = await self._store.load(provider)
        reading = self._read(stored.rows, "derived", DerivedPayload)
        return DerivedReply(version=stored.version, state=reading.state, payload=reading.payload)

    async def meta(self, provider: str) -> CredentialMeta:
        """Describe the stored OAuth grant.

        Raises:
            NotFound: there is no OAuth row.
            CannotUnseal: there is one, but it cannot be read.
        """
        row = (await self._store.load(provider)).rows.get("oauth")
        if row is None:
            raise NotFound("Provider credential not found")
        try:
            payload = self._unseal(row, OAuthPayload)
        except CannotUnseal as error:
            raise CannotUnseal(
                f"The stored credential for {provider} cannot be decrypted. BETTER_AUTH_SECRET was "
                f"probably rotated: run `hogsend connect {provider}` again, or DELETE this "
                "credential."
            ) from error
        return _meta(provider, payload, row)

    async def delete(self, provider: str) -> None:
        """Remove the grant and everything derived from it; never unseals.

        Raises:
            NotFound: nothing is stored.
        """
        if not await self._store.delete(provider):
            raise NotFound("Provider credential not found")

    async def status(self, provider: str) -> CredentialStatus:
        """Say what is stored and whether it can be read."""
        stored = await self._store.load(provider)
        grant = self._read(stored.rows, "oauth", OAuthPayload)
        return CredentialStatus(
            version=stored.version,
            oauth=grant.state,
            scopes=grant.payload.scopes if grant.payload else [],
            webhook_secret=self._read_secret(stored.rows, stored.version).state,
        )

    async def webhook_secret(self, provider: str) -> WebhookSecretReply:
        """Digest of the minted webhook secret."""
        stored = await self._store.load(provider)
        return self._read_secret(stored.rows, stored.version)

    async def token(self, provider: str) -> TokenReply:
        """Resolve a bearer in the seed's order: OAuth, personal key, none."""
        stored = await self._store.load(provider)
        grant = self._read(stored.rows, "oauth", OAuthPayload).payload
        if grant is not None and grant.expires_at > datetime.now(UTC):
            return TokenReply(
                source="oauth",
                version=stored.version,
                token=grant.access_token,
                expires_at=grant.expires_at,
            )
        return TokenReply(
            source="personal_key" if self._personal_key else "none",
            version=stored.version,
            token=self._personal_key,
        )

    def grant(self, rows: Rows) -> OAuthPayload | None:
        """Read the grant among `rows`; None when absent or unreadable."""
        return self._read(rows, "oauth", OAuthPayload).payload

    def _read_secret(self, rows: Rows, version: int) -> WebhookSecretReply:
        derived = self._read(rows, "derived", DerivedPayload)
        secret = derived.payload.webhook_secret if derived.payload else None
        if derived.state == "present" and not secret:
            return WebhookSecretReply(version=version, state="absent")
        digest = hashlib.sha256(secret.encode()).hexdigest() if secret else None
        return WebhookSecretReply(version=version, state=derived.state, sha256=digest)

    def _read(self, rows: Rows, kind: Kind, payload: type[Payload]) -> Reading[Payload]:
        row = rows.get(kind)
        if row is None:
            return Reading("absent")
        try:
            return Reading("present", self._unseal(row, payload))
        except CannotUnseal as error:
            UNREADABLE.labels(kind).inc()
            if (kind, row.updated_at) not in self._reported:
                self._reported.add((kind, row.updated_at))
                log.warning("stored credential cannot be read", kind=kind, reason=str(error))
            return Reading("unreadable")

    def _seal(self, payload: OAuthPayload | DerivedPayload) -> str:
        return self._sealer.seal(msgspec.json.encode(payload))

    def _unseal(self, row: SealedRow, payload: type[Payload]) -> Payload:
        try:
            return msgspec.json.decode(self._sealer.unseal(row.payload), type=payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # The cause would quote the payload, so only its kind is passed on.
            raise CannotUnseal(f"the {row.kind} row does not hold a valid payload") from None


def _meta(provider: str, payload: OAuthPayload, row: SealedRow) -> CredentialMeta:
    return CredentialMeta(
        provider_id=provider,
        kind="oauth",
        scopes=payload.scopes,
        expires_at=payload.expires_at,
        scoped_teams=payload.scoped_teams,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _check_endpoints(payload: OAuthPayload) -> None:
    # The refresh token is sent to this URL later; whoever can PUT must not choose a plain one.
    endpoint = payload.token_endpoint
    secure = endpoint.startswith("https://")
    local = endpoint.startswith("http://") and is_loopback(endpoint)
    if not (is_absolute_url(endpoint) and (secure or local)):
        raise InvalidRequest("payload.tokenEndpoint must be https, or http on this machine")
    if not is_absolute_url(payload.client_id):
        raise InvalidRequest("payload.clientId must be an absolute URL")
