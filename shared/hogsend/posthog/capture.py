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

MAX_ANSWER_BYTES = 64 * 1024
GZIP_LEVEL = 1
"""Events resemble each other: a higher level saves little and costs most of a delivery's time."""

_HIDDEN = "***"
_RETRYABLE = frozenset({408, 429})
_ABOUT_CONTENT = frozenset({400, 413, 415, 422})


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """One event in the shape PostHog accepts.

    PostHog deduplicates by the first four fields: they must not change between attempts.
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
            detail: PostHog's text, or why there was no answer.
            status: HTTP status; None when there was no answer.
            retry_after: seconds PostHog asks to wait before the next request.
        """
        super().__init__(detail, status, retry_after=retry_after)

    @property
    def may_pass(self) -> bool:
        """Whether the same batch may be accepted later (contract 6.5)."""
        return self.status is None or self.status in _RETRYABLE or self.status >= 500  # noqa: PLR2004

    @property
    def is_about_content(self) -> bool:
        """Whether a single event may have caused the refusal of the whole batch."""
        return self.status in _ABOUT_CONTENT


class CaptureApi:
    """Sends batches, each within `seconds`."""

    def __init__(self, http: httpx.AsyncClient, *, seconds: float) -> None:
        self._http = http
        self._seconds = seconds

    async def send(self, host: str, key: str, events: Sequence[bytes]) -> int:
        """Send events, encoded by `encode`, in their order; returns the HTTP status.

        Raises:
            CaptureError: PostHog refused them, or its answer did not arrive.
        """
        head = b'{"api_key":' + msgspec.json.encode(key) + b',"batch":['
        body = await asyncio.to_thread(
            gzip.compress, b"".join((head, b",".join(events), b"]}")), GZIP_LEVEL
        )
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        try:
            answer = await exchange(
                self._http,
                "POST",
                f"{host}/batch/",
                headers=headers,
                content=body,
                seconds=self._seconds,
                max_bytes=MAX_ANSWER_BYTES,
            )
        except PostHogTimeout:
            raise CaptureError(f"Timeout after {self._seconds * 1000:g}ms") from None
        except PostHogError as error:
            raise CaptureError(error.detail) from None
        if httpx.codes.is_success(answer.status):
            return answer.status
        text = answer.content.decode(errors="replace").strip().replace(key, _HIDDEN)[:MAX_DETAIL]
        if httpx.codes.is_redirect(answer.status):
            text = "a redirect to another address, which events must not follow"
        detail = f"HTTP {answer.status}: {text}" if text else f"HTTP {answer.status}"
        raise CaptureError(
            detail, answer.status, retry_after_seconds(answer.retry_after, datetime.now(UTC))
        )


def encode(event: Captured) -> bytes:
    """Encode one event as JSON."""
    return msgspec.json.encode(event)
