"""The relay of the transactional outbox: publishes committed changes in version order.

A change and its version are committed in one transaction, and published afterwards. A crash or an
outage in between leaves the change pending in the database, and the relay publishes it later.

Several replicas publish a provider's changes in version order because the row of the version is
locked while its change is published. A change that follows a change of the same process needs no
lock: it is published with the expected last sequence of its subject, so JetStream rejects it if
another replica's change came in between. A rejected change is published under the lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

import structlog

from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.errors import Unavailable
from hogsend.service import metrics
from services.credentials.payload_sealer import PayloadSealer
from services.credentials.records import PendingChange
from services.credentials.store import CredentialStore

log = structlog.get_logger(__name__)

RELAY_SECONDS = 5.0
"""How often pending changes are looked up."""


class ChangeStream(Protocol):
    """The stream that changes are published to. It keeps the last change of each provider."""

    async def publish(self, change: CredentialChanged) -> None:
        """Publish a change; a change that the stream has already is not stored again.

        Raises:
            Unavailable: the stream did not confirm that it has the change.
        """

    async def publish_next(self, change: CredentialChanged) -> bool:
        """Publish a change if it directly follows a change that this process has published.

        Returns:
            False when it does not, or when that is unknown; then nothing is published.

        Raises:
            Unavailable: as for `publish`.
        """

    async def has_lost_change(self, published: Mapping[str, int]) -> bool:
        """Whether the stream has lost the last change of a provider.

        After True, `publish` also stores changes that the stream has had before.

        Args:
            published: the last published version of each provider.

        Raises:
            Unavailable: the stream cannot be read.
        """


class ChangeRelay:
    """Publishes descriptions of changes, which contain no secret."""

    def __init__(self, store: CredentialStore, sealer: PayloadSealer, stream: ChangeStream) -> None:
        """Read changes from `store`, describe them with `sealer`, publish them to `stream`."""
        self._store = store
        self._sealer = sealer
        self._stream = stream
        self._marking: set[asyncio.Task[None]] = set()

    async def announce(self, provider: str, stored: PendingChange | None) -> None:
        """Publish a change that has just been committed.

        Args:
            provider: the provider whose credential changed.
            stored: the change; None when another replica may have made a change at the same time.

        Raises:
            Unavailable: the change could not be published, and stays pending.
        """
        if stored is not None:
            change = self._describe(provider, stored)
            if await self._stream.publish_next(change):
                _log(change)
                # In the background: a change that could not be marked as published is published
                # again, and JetStream drops the duplicate.
                marking = asyncio.create_task(self._mark(provider, change.version))
                self._marking.add(marking)
                marking.add_done_callback(self._marking.discard)
                return
        await self.relay(provider)

    async def finish(self) -> None:
        """Wait until published changes are marked as published."""
        if self._marking:
            await asyncio.wait(self._marking)

    async def relay(self, provider: str) -> None:
        """Publish the provider's newest change, unless it is published already.

        Raises:
            Unavailable: the change could not be published, and stays pending.
        """
        async with self._store.pending_change(provider) as pending:
            if pending is None:
                return
            change = self._describe(provider, pending)
            await self._stream.publish(change)
        _log(change)

    async def relay_pending(self) -> None:
        """Publish the newest change of each provider that has a pending one.

        If the stream has lost a published change (lost disk, restored backup, another message in
        its place), the newest change of every provider is published again for late subscribers.

        Raises:
            Unavailable: PostgreSQL or the stream is not available; unpublished changes stay
                pending.
        """
        if await self._stream.has_lost_change(await self._store.published_versions()):
            log.warning("the stream has lost the last credential changes; they are published again")
            await self._store.mark_all_pending()
        for provider in await self._store.pending_changes():
            await self.relay(provider)

    async def _mark(self, provider: str, version: int) -> None:
        try:
            await self._store.mark_published(provider, version)
        except Unavailable as error:
            metrics.FAILURES.labels("credential_change", error.code).inc()
            log.debug(
                "a published change could not be marked as published",
                provider=provider,
                reason=str(error),
            )

    def _describe(self, provider: str, pending: PendingChange) -> CredentialChanged:
        grant = self._sealer.grant(pending.rows).payload
        return CredentialChanged(
            provider=provider,
            version=pending.version,
            change=pending.change,
            kinds=sorted(pending.rows, reverse=True),
            changed_kinds=[*pending.changed_kinds],
            scopes=grant.scopes if grant else [],
            expires_at=grant.expires_at if grant else None,
            changed_at=pending.changed_at,
        )


def _log(change: CredentialChanged) -> None:
    log.info(
        "credential changed",
        provider=change.provider,
        version=change.version,
        change=change.change,
        kinds=change.kinds,
    )
