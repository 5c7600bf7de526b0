"""A store, a token endpoint and a change stream in memory, and a clock that tests advance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec

from hogsend.contract.credentials import Change, CredentialChanged, Kind, OAuthPayload
from hogsend.contract.errors import Unavailable
from hogsend.posthog.client_document import CLIENT_ID
from services.credentials.authorization.store import AuthorizationStore, PendingAuthorization
from services.credentials.records import (
    PendingChange,
    RefreshState,
    Rows,
    Saved,
    SealedRow,
    Snapshot,
)
from services.credentials.refresh_lock import RefreshLock
from services.credentials.store import CredentialStore
from services.credentials.token_endpoint import RefreshFailed, TokenEndpoint

EU = "https://eu.posthog.com"
START = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that tests advance."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        """Return the time as an event loop does."""
        return self.now.timestamp()

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class _Provider:
    """The rows of the database for one provider."""

    rows: Rows = field(default_factory=dict)
    version: int = 0
    generation: int = 0
    published: int = 0
    change: Change = "stored"
    changed_kinds: list[Kind] = field(default_factory=list)
    changed_at: datetime = START
    refreshed: datetime | None = None
    """`updated_at` of the grant that `refresh` belongs to."""
    refresh: RefreshState | None = None
    refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)
    publishing: asyncio.Lock = field(default_factory=asyncio.Lock)


class MemoryStore(CredentialStore):
    """Behaves as PostgreSQL does; `test_store.py` runs the same checks on both."""

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._providers: dict[str, _Provider] = {}
        self._ticks = 0
        self.available = True
        self.refuses_grants = False
        """Whether storing a refreshed grant fails, and nothing else."""
        self.busy = False
        """Whether another replica holds every refresh lock for too long."""
        self.lock_requests = 0
        """Number of requests for a refresh lock, each of which takes a connection."""

    async def save(self, provider: str, kind: Kind, payload: str) -> Saved:
        stored = self._of(provider)
        now = self._tick()
        before = stored.rows.get(kind)
        row = SealedRow(kind, payload, before.created_at if before else now, now)
        stored.rows[kind] = row
        is_first = not stored.version
        self._bump(stored, "stored", [kind])
        return Saved(row, None if is_first else self._change(stored))

    async def save_derived(self, provider: str, payload: str, *, generation: int) -> Saved | None:
        if self._of(provider).generation != generation:
            return None
        return await self.save(provider, "derived", payload)

    async def save_grant(
        self, provider: str, grant: str, derived: str | None, *, version: int
    ) -> Saved | None:
        stored = self._of(provider)
        if stored.version != version:
            return None
        if derived is None:
            return await self.save(provider, "oauth", grant)
        stored.rows["derived"] = msgspec.structs.replace(
            stored.rows["derived"], payload=derived, updated_at=self._tick()
        )
        saved = await self.save(provider, "oauth", grant)
        stored.changed_kinds = ["derived", "oauth"]
        return Saved(saved.row, self._change(stored))

    async def load(self, provider: str) -> Snapshot:
        return self._snapshot(self._of(provider))

    async def delete(self, provider: str) -> bool:
        stored = self._of(provider)
        kinds = sorted(stored.rows)
        if kinds:
            stored.rows.clear()
            self._bump(stored, "deleted", kinds)
        return bool(kinds)

    @asynccontextmanager
    async def refresh_lock(self, provider: str) -> AsyncIterator[RefreshLock]:
        stored = self._of(provider)
        self.lock_requests += 1
        if self.busy:
            raise Unavailable("another replica's refresh does not end")
        async with stored.refreshing:
            yield MemoryRefreshLock(self, stored)

    async def granted_providers(self) -> list[str]:
        self._check()
        return sorted(name for name, stored in self._providers.items() if "oauth" in stored.rows)

    async def all_rows(self) -> list[tuple[str, SealedRow]]:
        self._check()
        return [
            (name, row) for name, stored in self._providers.items() for row in stored.rows.values()
        ]

    async def reseal(self, provider: str, row: SealedRow, payload: str) -> None:
        stored = self._of(provider)
        current = stored.rows.get(row.kind)
        if current is not None and current.payload == row.payload:
            stored.rows[row.kind] = msgspec.structs.replace(current, payload=payload)

    async def pending_changes(self) -> list[str]:
        self._check()
        return [
            name for name, stored in self._providers.items() if stored.published < stored.version
        ]

    @asynccontextmanager
    async def pending_change(self, provider: str) -> AsyncIterator[PendingChange | None]:
        stored = self._of(provider)
        async with stored.publishing:
            if stored.published >= stored.version:
                yield None
                return
            pending = self._change(stored)
            yield pending
            stored.published = max(stored.published, pending.version)

    async def mark_published(self, provider: str, version: int) -> None:
        stored = self._of(provider)
        stored.published = max(stored.published, version)

    async def published_versions(self) -> dict[str, int]:
        self._check()
        return {
            name: stored.published for name, stored in self._providers.items() if stored.published
        }

    async def mark_all_pending(self) -> None:
        self._check()
        for stored in self._providers.values():
            stored.published = 0

    def _check(self) -> None:
        if not self.available:
            raise Unavailable("PostgreSQL is not available")

    def _of(self, provider: str) -> _Provider:
        self._check()
        return self._providers.setdefault(provider, _Provider())

    def _tick(self) -> datetime:
        # No two rows are stored in the same microsecond.
        self._ticks += 1
        return self._now() + timedelta(microseconds=self._ticks)

    def _bump(self, stored: _Provider, change: Change, kinds: list[Kind]) -> None:
        stored.version += 1
        stored.change, stored.changed_kinds, stored.changed_at = change, kinds, self._now()
        if change == "deleted" or (change == "stored" and kinds == ["oauth"]):
            stored.generation = stored.version

    def _change(self, stored: _Provider) -> PendingChange:
        return PendingChange(
            version=stored.version,
            change=stored.change,
            changed_kinds=stored.changed_kinds,
            changed_at=stored.changed_at,
            rows=dict(stored.rows),
        )

    def _snapshot(self, stored: _Provider) -> Snapshot:
        grant = stored.rows.get("oauth")
        current = grant is not None and stored.refreshed == grant.updated_at
        return Snapshot(
            stored.version,
            dict(stored.rows),
            stored.refresh if current else None,
            stored.change if stored.version else None,
            stored.generation,
        )


class MemoryRefreshLock(RefreshLock):
    """The steps of one refresh."""

    def __init__(self, store: MemoryStore, stored: _Provider) -> None:
        self._store = store
        self._stored = stored

    async def load(self) -> Snapshot:
        self._store._check()
        return self._store._snapshot(self._stored)

    async def record_start(self, replaced: SealedRow, now: datetime) -> None:
        self._store._check()
        before = self._stored.refresh if self._stored.refreshed == replaced.updated_at else None
        self._stored.refreshed = replaced.updated_at
        self._stored.refresh = (
            msgspec.structs.replace(before, started_at=now)
            if before
            else RefreshState(now, None, 0, None, needs_reconnect=False)
        )

    async def save(self, replaced: SealedRow, payload: str) -> int | None:
        self._store._check()
        if self._store.refuses_grants:
            raise Unavailable("PostgreSQL refuses the grant: DiskFullError")
        current = self._stored.rows.get("oauth")
        if current is None or current.updated_at != replaced.updated_at:
            return None
        self._stored.rows["oauth"] = msgspec.structs.replace(
            current, payload=payload, updated_at=self._store._tick()
        )
        self._store._bump(self._stored, "refreshed", ["oauth"])
        return self._stored.version

    async def record_failure(
        self,
        replaced: SealedRow,
        now: datetime,
        reason: str,
        *,
        needs_reconnect: bool,
        response_lost: bool = False,
    ) -> int:
        self._store._check()
        if self._stored.refresh is None or self._stored.refreshed != replaced.updated_at:
            return 0
        failures = self._stored.refresh.failures + 1
        started_at = self._stored.refresh.started_at if response_lost else None
        self._stored.refresh = RefreshState(started_at, now, failures, reason, needs_reconnect)
        return failures


class FakeTokenEndpoint(TokenEndpoint):
    """Rotates the tokens: the n-th response has `pha_n`, `phr_n` and `lifetime`."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        """The refresh tokens that were used."""
        self.lifetime = timedelta(hours=1)
        """Lifetime of each token."""
        self.failure: RefreshFailed | None = None
        self.responding = asyncio.Event()
        """While it is cleared, no request is answered."""
        self.responding.set()
        self.arrived = asyncio.Event()
        """Set once a request has arrived."""

    async def renew(self, grant: OAuthPayload, now: datetime) -> OAuthPayload:
        self.requests.append(grant.refresh_token)
        number = len(self.requests)
        self.arrived.set()
        await self.responding.wait()
        if self.failure is not None:
            raise self.failure
        return msgspec.structs.replace(
            grant,
            access_token=f"pha_{number}",
            refresh_token=f"phr_{number}",
            expires_at=now + self.lifetime,
        )


class ReuseDetectingEndpoint(FakeTokenEndpoint):
    """Rotates like django-oauth-toolkit: use of a rotated token after 120 s revokes the grant."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._generation = 0
        self._rotated_at = START
        self.losing = 0
        """How many of the next responses are lost, each after the 10 s of the timeout."""
        self.revoked = False

    async def renew(self, grant: OAuthPayload, now: datetime) -> OAuthPayload:
        self.requests.append(grant.refresh_token)
        self.arrived.set()
        if self.failure is not None:
            raise self.failure
        if grant.refresh_token == f"phr_{self._generation}":
            self._generation += 1
            self._rotated_at = self._clock.now
        elif self._clock.now >= self._rotated_at + timedelta(seconds=120):
            self.revoked = True
        if self.revoked:
            raise RefreshFailed("invalid_grant")
        await self.responding.wait()
        if self.losing:
            self.losing -= 1
            self._clock.advance(10)
            raise RefreshFailed("no answer (TimeoutError)", response_lost=True)
        return msgspec.structs.replace(
            grant,
            access_token=f"pha_{self._generation}",
            refresh_token=f"phr_{self._generation}",
            expires_at=now + self.lifetime,
        )


class MemoryStream:
    """A stream of changes in memory."""

    def __init__(self) -> None:
        self.changes: list[CredentialChanged] = []
        self.available = True
        self.accepting = asyncio.Event()
        """While it is cleared, no publication is acknowledged."""
        self.accepting.set()
        self.arrived = asyncio.Event()
        """Set once a change has arrived."""

    async def publish(self, change: CredentialChanged) -> None:
        self.arrived.set()
        await self.accepting.wait()
        if not self.available:
            raise Unavailable("NATS is not connected")
        self.changes.append(change)

    async def publish_next(self, change: CredentialChanged) -> bool:
        """Refuse, like JetStream, if another message follows the expected last sequence."""
        if not any(published.provider == change.provider for published in self.changes):
            return False
        expected = self.changes[-1]
        self.arrived.set()
        await self.accepting.wait()
        if not self.available:
            raise Unavailable("NATS is not connected")
        if self.changes[-1] is not expected:
            return False
        self.changes.append(change)
        return True

    async def has_lost_change(self, published: Mapping[str, int]) -> bool:
        if not self.available:
            raise Unavailable("NATS is not connected")
        latest = {change.provider: change.version for change in self.changes}
        return any(latest.get(provider, 0) < version for provider, version in published.items())


class MemoryAuthorizations(AuthorizationStore):
    """Behaves like PostgreSQL; `test_store.py` runs the same checks on both."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], PendingAuthorization] = {}
        self.available = True

    async def add(
        self, state_sha256: str, provider: str, waiting: PendingAuthorization, now: datetime
    ) -> None:
        self._check()
        self.rows = {key: row for key, row in self.rows.items() if row.expires_at > now}
        self.rows[state_sha256, provider] = waiting

    async def take(self, state_sha256: str, provider: str) -> PendingAuthorization | None:
        self._check()
        return self.rows.pop((state_sha256, provider), None)

    def _check(self) -> None:
        if not self.available:
            raise Unavailable("PostgreSQL is not available")


class FakeAuthorizationServer:
    """PostHog's OAuth server, as a handler of httpx's mock transport."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {
            "issuer": EU,
            "authorization_endpoint": f"{EU}/oauth/authorize/",
            "token_endpoint": f"{EU}/oauth/token/",
            "registration_endpoint": f"{EU}/oauth/register/",
            "client_id_metadata_document_supported": True,
        }
        self.discovery_status = 200
        self.discovery: Exception | bytes | None = None
        """An error, or a body in place of the document."""
        self.redirects: dict[str, str] = {}
        """Targets of redirects, by the URL that is redirected."""
        self.unreachable = False
        self.token_status = 200
        self.tokens: dict[str, Any] | bytes = {
            "access_token": "pha_1",
            "refresh_token": "phr_1",
            "expires_in": 3600,
            "scope": "person:read project:read",
            "scoped_teams": [7],
        }
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.unreachable:
            raise httpx.ReadTimeout("too slow")
        if (target := self.redirects.get(str(request.url))) is not None:
            return httpx.Response(301, headers={"Location": target})
        if isinstance(self.discovery, Exception):
            raise self.discovery
        if self.discovery is not None:
            return httpx.Response(200, content=self.discovery)
        if request.method == "GET":
            return httpx.Response(self.discovery_status, json=self.document)
        if isinstance(self.tokens, bytes):
            return httpx.Response(self.token_status, content=self.tokens)
        return httpx.Response(self.token_status, json=self.tokens)


def make_grant(clock: Clock, *, left: float, **changes: Any) -> OAuthPayload:
    """Create a grant whose access token expires in `left` seconds."""
    grant: dict[str, Any] = {
        "access_token": "pha_0",
        "refresh_token": "phr_0",
        "expires_at": clock.now + timedelta(seconds=left),
        "token_endpoint": "https://us.posthog.com/oauth/token/",
        "client_id": CLIENT_ID,
        "scopes": ["person:read", "project:read"],
        "scoped_teams": [4242],
        "scoped_organizations": ["0190aa51-6a70-0000-5c6d-2b5ea0c8a2d9"],
    }
    return OAuthPayload(**{**grant, **changes})
