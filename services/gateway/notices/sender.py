"""Sends notices to the operator's webhook, signed by Standard Webhooks, until it accepts them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Never

import httpx
import msgspec
import structlog
from prometheus_client import Counter
from standardwebhooks.webhooks import Webhook

from hogsend.posthog.retry_after import MAX_SECONDS as LONGEST_RETRY_AFTER_SECONDS
from hogsend.posthog.retry_after import retry_after_seconds
from hogsend.service.http import NOT_POSTHOG
from services.gateway.notices.outbox import Outbox, PendingNotice

log = structlog.get_logger(__name__)

REQUEST_SECONDS = 10.0
FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 900.0
LONGEST_PAUSE_SECONDS = max(LONGEST_RETRY_SECONDS, LONGEST_RETRY_AFTER_SECONDS)
MAX_AGE_SECONDS = 3 * 24 * 3600.0
"""Age at which a notice is abandoned."""
SPACING_SECONDS = 1.0
"""Pause between two requests, so that a receiver is never flooded."""

NOTICES = Counter(
    "hogsend_operator_notices",
    "Attempts to notify the operator's webhook, by kind and outcome",
    ["kind", "outcome"],
)

_encode = msgspec.json.Encoder().encode


class NoticeSender:
    """Delivers the notices of an outbox at least once, and those of one subject in order."""

    def __init__(
        self,
        outbox: Outbox,
        http: httpx.AsyncClient,
        *,
        url: str,
        key: bytes,
        now: Callable[[], float] = time.time,
        spacing: float = SPACING_SECONDS,
    ) -> None:
        """Send to `url`, signed with `key`."""
        self._outbox = outbox
        self._http = http
        self._url = url
        self._webhook = Webhook(key)
        self._now = now
        self._spacing = spacing

    async def run(self) -> Never:
        """Send notices when they are due, until cancelled."""
        while True:
            await self._outbox.wait_for_change(await self.send_due())

    async def send_due(self) -> float | None:
        """Send the notices that are due.

        Returns:
            Seconds until the next notice is due, or None if no notice is pending.
        """
        for pending in self._next():
            if not self._seconds_until_due(pending):
                await self._send(pending)
                await asyncio.sleep(self._spacing)
        return min(map(self._seconds_until_due, self._next()), default=None)

    def _seconds_until_due(self, pending: PendingNotice) -> float:
        seconds = pending.due_at - self._now()
        # No pause is longer than that, so the clock was set back.
        return max(0.0, seconds) if seconds <= LONGEST_PAUSE_SECONDS else 0.0

    def _next(self) -> list[PendingNotice]:
        """Return the oldest notice of each subject, if it is claimed."""
        # Only the oldest: if the end of a problem arrived before its start, it would seem to last.
        oldest: dict[tuple[str, str], PendingNotice] = {}
        for pending in self._outbox.pending:
            oldest.setdefault((pending.notice.type, pending.notice.data.subject), pending)
        return [pending for pending in oldest.values() if pending.claimed]

    async def _send(self, pending: PendingNotice) -> None:
        body, kind = _encode(pending.notice), pending.notice.type
        at = datetime.fromtimestamp(int(self._now()), UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": str(pending.id),
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": self._webhook.sign(str(pending.id), at, body.decode()),
        }
        failure, retry_after = None, None
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                # The response's body is not read: it is not needed, and may be endless.
                async with self._http.stream(
                    "POST", self._url, content=body, headers=headers, extensions=NOT_POSTHOG
                ) as response:
                    pass
            if not response.is_success:
                failure = f"HTTP {response.status_code}"
                retry_after = retry_after_seconds(
                    response.headers.get("retry-after"), datetime.now(UTC)
                )
        except TimeoutError:
            failure = f"no response within {REQUEST_SECONDS:g} s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The error's text is not logged: it may contain the URL, and the URL may have a token.
            failure = type(error).__name__
        if failure is None:
            NOTICES.labels(kind, "delivered").inc()
            await self._outbox.remove(pending)
            return
        pending.attempts += 1
        if self._now() - pending.notice.timestamp.timestamp() > MAX_AGE_SECONDS:
            NOTICES.labels(kind, "given_up").inc()
            log.error("the operator's webhook never accepted a notice", kind=kind, reason=failure)
            await self._outbox.remove(pending)
            return
        NOTICES.labels(kind, "retried").inc()
        pause = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(pending.attempts - 1, 20))
        pending.due_at = self._now() + max(pause, retry_after or 0.0)
        log_at = log.warning if pending.attempts == 1 else log.debug
        log_at(
            "the operator's webhook did not accept a notice",
            kind=kind,
            reason=failure,
            attempts=pending.attempts,
            fix="OPERATOR_WEBHOOK_URL must answer 2xx. Its host may be inside the network",
        )
        await self._outbox.save()
