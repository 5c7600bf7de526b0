"""PostHog's capture API: `POST {ingestion host}/batch/` (contract 4.5, `rust/capture`)."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from uuid import UUID

import httpx
import msgspec

from hogsend.contract.base import Properties
from hogsend.posthog.api.transport import AnswerTooLarge, read
from hogsend.service.ssrf import AddressRefused

MAX_ANSWER_BYTES = 64 * 1024
MAX_DETAIL = 200
GZIP_LEVEL = 1
"""Events repeat themselves: more effort saves little and costs most of a delivery's time."""

_HIDDEN = "***"
_RETRYABLE = frozenset({408, 429})
_ABOUT_CONTENT = frozenset({400, 413, 415, 422})


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """One event as PostHog takes it.

    The four first fields are what PostHog knows repeats by: they must not change between attempts.
    """

    uuid: UUID
    event: str
    distinct_id: str
    timestamp: datetime
    properties: Properties


class CaptureError(Exception):
    """A batch was not taken. Safe to show: it never holds the project key."""

    def __init__(
        self, detail: str, status: int | None = None, retry_after: float | None = None
    ) -> None:
        """Say why.

        Args:
            detail: PostHog's words, or why it could not be asked.
            status: HTTP status; None when there was no answer.
            retry_after: seconds PostHog asks to be left alone for.
        """
        super().__init__(detail)
        self.status = status
        self.retry_after = retry_after

    @property
    def may_pass(self) -> bool:
        """Whether the same batch may be taken later (contract 6.5)."""
        return self.status is None or self.status in _RETRYABLE or self.status >= 500  # noqa: PLR2004

    @property
    def is_about_content(self) -> bool:
        """Whether one event of the batch may be at fault, and others not."""
        return self.status in _ABOUT_CONTENT


class Capture:
    """Sends batches; nothing here retries or follows a redirect."""

    def __init__(self, http: httpx.AsyncClient, *, seconds: float) -> None:
        """Send with `http` (see `hogsend.posthog.api.http_client`), each batch within `seconds`."""
        self._http = http
        self._seconds = seconds

    async def send(self, host: str, key: str, events: Sequence[bytes]) -> int:
        """Send events, encoded by `encode`, in their order; gives the HTTP status.

        Raises:
            CaptureError: they were not taken, or nobody knows.
        """
        head = b'{"api_key":' + msgspec.json.encode(key) + b',"batch":['
        body = await asyncio.to_thread(
            gzip.compress, b"".join((head, b",".join(events), b"]}")), GZIP_LEVEL
        )
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._http.stream("POST", f"{host}/batch/", content=body, headers=headers) as said,
            ):
                content = await read(said, MAX_ANSWER_BYTES)
                status, retry_after = said.status_code, said.headers.get("Retry-After")
        except TimeoutError:
            raise CaptureError(f"Timeout after {self._seconds * 1000:g}ms") from None
        except AnswerTooLarge:
            raise CaptureError("PostHog's answer is too large") from None
        except AddressRefused as error:
            raise CaptureError(str(error)) from None
        # Causes are dropped on purpose: what the libraries below say can quote the request.
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise CaptureError(f"PostHog cannot be reached ({type(error).__name__})") from None
        if httpx.codes.is_success(status):
            return status
        words = content.decode(errors="replace").strip().replace(key, _HIDDEN)[:MAX_DETAIL]
        detail = f"HTTP {status}: {words}" if words else f"HTTP {status}"
        raise CaptureError(detail, status, _seconds(retry_after))


def encode(event: Captured) -> bytes:
    """One event as JSON."""
    return msgspec.json.encode(event)


def _seconds(retry_after: str | None) -> float | None:
    """Seconds of a `Retry-After` header, which may be a date (RFC 9110, 10.2.3)."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
