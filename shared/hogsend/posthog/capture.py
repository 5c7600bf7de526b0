"""PostHog's capture API: `POST {ingestion host}/batch/` (contract 4.5, `rust/capture`)."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import httpx
import msgspec

from hogsend.contract.base import Properties
from hogsend.posthog.errors import PostHogError, PostHogTimeout
from hogsend.posthog.exchange import MAX_DETAIL, exchange
from hogsend.posthog.retry_after import retry_after_seconds

MAX_RESPONSE_BYTES = 64 * 1024
GZIP_LEVEL = 1
"""Events are similar to each other: a higher level saves few bytes and costs much CPU."""

_HIDDEN = "***"
_RETRYABLE = frozenset({408, 429})
_CONTENT_ERRORS = frozenset({400, 413, 415, 422})


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """One event in PostHog's format.

    PostHog deduplicates by the first four fields, so they must not change between attempts.
    """

    uuid: UUID
    event: str
    distinct_id: str
    timestamp: datetime
    properties: Properties


class CaptureError(PostHogError):
    """PostHog did not accept a batch."""

    def __init__(
        self, detail: str, status: int | None = None, retry_after: float | None = None
    ) -> None:
        """Describe a failed delivery.

        Args:
            detail: the text of PostHog's response, or why there was no response.
            status: HTTP status; None without a response.
            retry_after: seconds to wait before the next request, from PostHog's response.
        """
        super().__init__(detail, status, retry_after=retry_after)

    @property
    def is_retryable(self) -> bool:
        """Whether the same batch may be accepted later (contract 6.5)."""
        return self.status is None or self.status in _RETRYABLE or self.status >= 500  # noqa: PLR2004

    @property
    def is_about_content(self) -> bool:
        """Whether a single event may have caused the refusal of the whole batch."""
        return self.status in _CONTENT_ERRORS


class CaptureApi:
    """Sends batches of events. Each request may take at most `seconds`."""

    def __init__(self, http: httpx.AsyncClient, *, seconds: float) -> None:
        self._http = http
        self._seconds = seconds

    async def send(self, host: str, key: str, events: Sequence[bytes]) -> int:
        """Send events that `encode` encoded, in the given order, and return the HTTP status.

        Raises:
            CaptureError: PostHog refused the batch, or there was no response.
        """
        head = b'{"api_key":' + msgspec.json.encode(key) + b',"batch":['
        body = await asyncio.to_thread(
            gzip.compress, b"".join((head, b",".join(events), b"]}")), GZIP_LEVEL
        )
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        try:
            response = await exchange(
                self._http,
                "POST",
                f"{host}/batch/",
                headers=headers,
                content=body,
                seconds=self._seconds,
                max_bytes=MAX_RESPONSE_BYTES,
            )
        except PostHogTimeout:
            raise CaptureError(f"Timeout after {self._seconds * 1000:g}ms") from None
        except PostHogError as error:
            raise CaptureError(error.detail) from None
        status = response.status
        if httpx.codes.is_success(status):
            return status
        text = response.content.decode(errors="replace").strip().replace(key, _HIDDEN)[:MAX_DETAIL]
        if httpx.codes.is_redirect(status):
            text = "a redirect to another address, which events must not follow"
        detail = f"HTTP {status}: {text}" if text else f"HTTP {status}"
        raise CaptureError(
            detail, status, retry_after_seconds(response.retry_after, datetime.now(UTC))
        )


def encode(event: Captured) -> bytes:
    """Encode one event as JSON."""
    return msgspec.json.encode(event)
