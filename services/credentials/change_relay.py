"""Announces committed changes on the bus, in version order, until every one has been told."""

from __future__ import annotations

import asyncio

import msgspec
import nats.errors
import structlog
from nats.js import errors as js_errors

from hogsend.contract import subjects
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.errors import PublishRejected, Unavailable
from hogsend.contract.headers import message_headers
from hogsend.contract.streams import StreamName
from hogsend.service import metrics, streams
from hogsend.transport.connection import Connection
from services.credentials.payload_sealer import PayloadSealer
from services.credentials.store import CredentialStore, PendingChange

log = structlog.get_logger(__name__)

CATCH_UP_SECONDS = 5.0
"""How often changes are looked for whose announcement was cut off by a crash or an outage."""


class ChangeRelay:
    """Publishes `hogsend.credentials.<provider>.changed`; metadata only."""

    def __init__(self, store: CredentialStore, sealer: PayloadSealer, bus: Connection) -> None:
        """Read changes from `store`, describe them with `reader`, publish them on `bus`."""
        self._store = store
        self._sealer = sealer
        self._bus = bus

    async def relay(self, provider: str) -> None:
        """Publish the provider's newest change and wait until JetStream has it.

        Raises:
            Unavailable: it could not be published; it stays pending and is published later.
        """
        async with self._store.pending_change(provider) as pending:
            if pending is None:
                return
            change = self._describe(provider, pending)
            headers = message_headers(
                id=f"credentials:{provider}:{pending.version}",
                source="credentials",
                type="credential.changed",
                time=pending.changed_at,
            )
            subject = subjects.credential_changed(provider)
            try:
                await self._bus.publish(subject, msgspec.json.encode(change), headers)
            except PublishRejected as error:
                raise Unavailable("JetStream refused the credential event") from error
        log.info(
            "credential changed",
            provider=provider,
            version=pending.version,
            change=pending.change,
            kinds=change.kinds,
        )

    async def relay_forever(self) -> None:
        """Announce whatever is still pending, now and every few seconds.

        Once JetStream has lost what it kept, with its disk or by a restored database, everything
        is pending again: who subscribes later is to start with what is stored.
        """
        while True:
            try:
                if await self._stream_is_empty():
                    await self._store.mark_all_pending()
                for provider in await self._store.pending_changes():
                    await self.relay(provider)
            except Unavailable as error:
                metrics.FAILURES.labels("announcer", "unavailable").inc()
                log.debug("announcements wait", reason=str(error))
            await asyncio.sleep(CATCH_UP_SECONDS)

    async def _stream_is_empty(self) -> bool:
        if not self._bus.connected:
            return False
        try:
            return await streams.is_empty(self._bus.js, StreamName.CREDENTIALS)
        except js_errors.NotFoundError:
            return False
        except (nats.errors.Error, js_errors.Error, TimeoutError) as error:
            raise Unavailable("JetStream does not tell what it keeps") from error

    def _describe(self, provider: str, pending: PendingChange) -> CredentialChanged:
        grant = self._sealer.grant(pending.rows).payload
        return CredentialChanged(
            provider=provider,
            version=pending.version,
            change=pending.change,
            kinds=sorted(pending.rows, reverse=True),
            changed_kinds=pending.changed_kinds,
            scopes=grant.scopes if grant else [],
            expires_at=grant.expires_at if grant else None,
            changed_at=pending.changed_at,
        )
