"""Handles PostHog's deliveries, from the request to the response (contract 5).

Deliveries are answered before they reach Litestar, whose request and response objects cost more
than everything else a webhook needs. A refused delivery is passed to its Litestar route, which
raises the error again so that Litestar creates the response.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException, NotAuthorizedException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.types import ASGIApp, Receive, Scope, Send

from hogsend.contract.errors import HogsendError, SpoolFull
from hogsend.contract.webhooks import SECRET_HEADER, WEBHOOK_PATH
from hogsend.service import metrics
from services.gateway.json_body import MalformedBodyError
from services.gateway.json_request import IncompleteBody
from services.gateway.response_headers import REQUEST_ID_STATE, RETRY_AFTER
from services.gateway.signatures import SignatureCheck, Signatures
from services.gateway.webhooks.posthog import (
    MalformedJSONError,
    parse_posthog,
    queued_posthog_webhook,
)
from services.gateway.webhooks.queued_webhook import QueuedWebhook
from services.gateway.webhooks.refusals import Refusals
from services.gateway.webhooks.secret import SecretCheck, WebhookSecret
from services.gateway.webhooks.size_limit import SizeLimit
from services.gateway.webhooks.webhook_queue import WebhookQueue

log = structlog.get_logger(__name__)

_SECRET_HEADER = SECRET_HEADER.encode()
REFUSED_STATE = "refused_delivery"
"""Key of the request's state: the error with which the route answers a refused delivery."""

_MISSING = (
    "there is no webhook secret: connect PostHog, or set POSTHOG_WEBHOOK_SECRET or WEBHOOK_OPEN"
)
_UNKNOWN_SECRET = "the webhook secret is not known yet"  # noqa: S105 - an error message
_UNKNOWN_KEY = "the key of this webhook's signature is not known yet"

_LENGTH_CHANGING_HEADERS = frozenset({b"content-encoding", b"transfer-encoding"})
"""Headers with which a body may have another length than `Content-Length`."""

_encode = msgspec.json.Encoder().encode


class WebhookAccepted(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Response to an accepted webhook: the event is stored durably."""

    ok: Literal[True] = True
    event: str
    user_id: str
    """PostHog's distinct id of the person. May be empty."""


class PostHogDeliveries:
    """Checks deliveries and queues them."""

    def __init__(
        self,
        queue: WebhookQueue,
        secret: WebhookSecret,
        signatures: Signatures,
        *,
        size: SizeLimit,
        refusals: Refusals,
        max_bytes: int,
        in_order: bool = False,
    ) -> None:
        """Prepare to accept deliveries.

        Args:
            queue: makes webhooks durable.
            secret: the secret that deliveries must carry.
            signatures: verifies signatures.
            size: the limit of NATS for messages.
            refusals: records refused webhooks.
            max_bytes: limit for a body.
            in_order: whether ingest keeps each person's events in order.
        """
        self._queue = queue
        self._secret = secret
        self._signatures = signatures
        self._size = size
        self._refusals = refusals
        self._max_bytes = max_bytes
        self._in_order = in_order

    async def accept(self, scope: Scope, receive: Receive) -> bytes:
        """Check one delivery and make its event durable.

        Returns:
            The body of the response.

        Raises:
            HTTPException: it is refused; the exception has the status and the reason.
            InvalidPayloadError: its body is JSON with other fields than PostHog sends.
            MalformedJSONError: its body is not JSON.
            TooLarge: its body is larger than NATS accepts, or takes too much memory when decoded.
        """
        headers = dict(scope["headers"])
        presented = _presented(headers)
        if (check := self._secret.check(presented)) is not SecretCheck.MATCH:
            await self._check_secret_again(scope, presented, check)
        try:
            body = await self._body(headers, receive)
        except MalformedBodyError as error:
            # `Content-Encoding: gzip`, but the body is not gzip, or ends early.
            raise MalformedJSONError from error
        self._size.check(body)
        signed = self._signatures.check(headers, body)
        if not self._signatures.is_enough(signed):
            await self._check_signature_again(scope, headers, body, signed)
        queued, response = self._queued(body, scope["state"][REQUEST_ID_STATE])
        try:
            await self._queue.accept(queued)
        except SpoolFull as error:
            raise _busy(error.status, str(error)) from error
        return response

    def _queued(self, body: bytes, request_id: str) -> tuple[QueuedWebhook, bytes]:
        """Return the message to queue, and the response for when it is queued.

        The decoded webhook may take 44 times as much memory as the body. It is a local of this
        method, so that it is freed before the wait for JetStream.
        """
        webhook, body = parse_posthog(body)
        queued = queued_posthog_webhook(
            webhook, body, datetime.now(UTC), request_id, in_order=self._in_order
        )
        event = webhook.event
        return queued, _encode(WebhookAccepted(event=event.event, user_id=event.distinct_id))

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        announced = headers.get(b"content-length", b"")
        length = int(announced) if announced.isdigit() else None
        if length is not None and length > self._max_bytes:
            raise RequestEntityTooLarge
        if not _LENGTH_CHANGING_HEADERS.isdisjoint(headers):
            length = None
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise IncompleteBody
            pieces.append(message["body"])
            size += len(message["body"])
            if size > self._max_bytes:
                raise RequestEntityTooLarge
            # After the announced bytes the body is complete. Receiving the server's final message
            # would cost another switch between threads, an eighth of a webhook's cost.
            if size == length or not message.get("more_body", False):
                return b"".join(pieces) if len(pieces) > 1 else pieces[0]

    async def _check_secret_again(
        self, scope: Scope, presented: bytes | None, check: SecretCheck
    ) -> None:
        if check is SecretCheck.MISMATCH:
            check = await self._secret.check_again(presented)
        if check is SecretCheck.UNKNOWN:
            self._refusals.unknown()
            raise _busy(503, _MISSING if self._secret.missing else _UNKNOWN_SECRET)
        if check is SecretCheck.MISMATCH:
            self._refusals.mismatch(scope, presented=presented is not None)
            raise NotAuthorizedException("Invalid webhook secret")

    async def _check_signature_again(
        self, scope: Scope, headers: Mapping[bytes, bytes], body: bytes, check: SignatureCheck
    ) -> None:
        if check is SignatureCheck.WRONG:
            try:
                check = await self._signatures.check_again(headers, body)
            except HogsendError as error:
                # Treated as an unknown key: the sender could also have omitted the signature.
                metrics.FAILURES.labels("signing_secret", error.code).inc()
                log.debug("the key of a signature cannot be requested", reason=str(error))
                check = SignatureCheck.UNKNOWN
        if self._signatures.is_enough(check):
            return
        if check is SignatureCheck.UNKNOWN:
            self._refusals.unknown()
            raise _busy(503, _UNKNOWN_KEY)
        self._refusals.signature(scope, check)
        raise NotAuthorizedException(
            "This webhook must be signed"
            if check is SignatureCheck.ABSENT
            else "Invalid webhook signature"
        )


def _presented(headers: Mapping[bytes, bytes]) -> bytes | None:
    presented = headers.get(_SECRET_HEADER)
    if presented is None and (bearer := headers.get(b"authorization")) is not None:
        return bearer.replace(b"Bearer ", b"", 1)
    return presented


def with_deliveries(app: ASGIApp, deliveries: PostHogDeliveries) -> ASGIApp:
    """Wrap `app` so that only refused deliveries reach it."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != ScopeType.HTTP
            or scope["path"] != WEBHOOK_PATH
            or scope["method"] != "POST"
        ):
            await app(scope, receive, send)
            return
        scope["path_template"] = WEBHOOK_PATH
        try:
            body = await deliveries.accept(scope, receive)
        except Exception as error:  # noqa: BLE001 - raised again by the route
            scope["state"][REFUSED_STATE] = error
            await app(scope, receive, send)
            return
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(body)),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return wrapped


def _busy(status: int, reason: str) -> HTTPException:
    return HTTPException(reason, status_code=status, headers={**RETRY_AFTER})
