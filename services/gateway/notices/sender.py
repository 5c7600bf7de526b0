"""Sends notices to the operator's webhook, signed by Standard Webhooks, until it takes them."""

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
from services.gateway.notices.outbox import Outbox, Waiting

log = structlog.get_logger(__name__)

REQUEST_SECONDS = 10.0
FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 900.0
LONGEST_PAUSE_SECONDS = max(LONGEST_RETRY_SECONDS, LONGEST_RETRY_AFTER_SECONDS)
GIVEN_UP_SECONDS = 3 * 24 * 3600.0
"""A notice that old is not tried again."""
SPACING_SECONDS = 1.0
"""Between two requests: a receiver is never flooded."""

NOTICES = Counter(
    "hogsend_operator_notices",
    "Attempts to tell the operator's webhook, by kind and outcome",
    ["kind", "outcome"],
)

_encode = msgspec.json.Encoder().encode


class NoticeSender:
    """Delivers what waits in an outbox, at least once, and in order what is about one subject."""

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
        """Sign with `key`, and send to `url`."""
        self._outbox = outbox
        self._http = http
        self._url = url
        self._webhook = Webhook(key)
        self._now = now
        self._spacing = spacing

    async def run(self) -> Never:
        """Send what is due; never ends."""
        while True:
            await self._outbox.changed(await self.send_due())

    async def send_due(self) -> float | None:
        """Send what is due; returns in how many seconds more is, None when nothing waits."""
        for waiting in self._next():
            if not self._seconds_until_due(waiting):
                await self._send(waiting)
                await asyncio.sleep(self._spacing)
        return min(map(self._seconds_until_due, self._next()), default=None)

    def _seconds_until_due(self, waiting: Waiting) -> float:
        seconds = waiting.due_at - self._now()
        # No pause is that long: the clock was set back.
        return max(0.0, seconds) if seconds <= LONGEST_PAUSE_SECONDS else 0.0

    def _next(self) -> list[Waiting]:
        """The oldest notice of each subject."""
        # Heard after its end, a problem would seem to go on.
        oldest: dict[tuple[str, str], Waiting] = {}
        for waiting in self._outbox.waiting:
            oldest.setdefault((waiting.notice.type, waiting.notice.data.subject), waiting)
        return [waiting for waiting in oldest.values() if waiting.claimed]

    async def _send(self, waiting: Waiting) -> None:
        body, kind = _encode(waiting.notice), waiting.notice.type
        at = datetime.fromtimestamp(int(self._now()), UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": str(waiting.id),
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": self._webhook.sign(str(waiting.id), at, body.decode()),
        }
        problem, wait = None, None
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                # Its body says nothing that is needed, and may have no end.
                async with self._http.stream(
                    "POST", self._url, content=body, headers=headers, extensions=NOT_POSTHOG
                ) as answer:
                    pass
            if not answer.is_success:
                problem = f"HTTP {answer.status_code}"
                wait = retry_after_seconds(answer.headers.get("retry-after"), datetime.now(UTC))
        except TimeoutError:
            problem = f"no answer within {REQUEST_SECONDS:g} s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # Its text may repeat the URL, which may hold a token.
            problem = type(error).__name__
        if problem is None:
            NOTICES.labels(kind, "delivered").inc()
            await self._outbox.remove(waiting)
            return
        waiting.attempts += 1
        if self._now() - waiting.notice.timestamp.timestamp() > GIVEN_UP_SECONDS:
            NOTICES.labels(kind, "given_up").inc()
            log.error("the operator's webhook never accepted a notice", kind=kind, reason=problem)
            await self._outbox.remove(waiting)
            return
        NOTICES.labels(kind, "retried").inc()
        pause = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(waiting.attempts - 1, 20))
        waiting.due_at = self._now() + max(pause, wait or 0.0)
        say = log.warning if waiting.attempts == 1 else log.debug
        say(
            "the operator's webhook did not accept a notice",
            kind=kind,
            reason=problem,
            attempts=waiting.attempts,
            fix="OPERATOR_WEBHOOK_URL has to answer 2xx; a host that is not public is allowed by "
            "being named there",
        )
        await self._outbox.save()
