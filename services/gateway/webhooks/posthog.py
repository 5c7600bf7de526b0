"""PostHog's webhook: checks the body, and makes the message that is queued for ingest."""

from __future__ import annotations

import json
import re
from datetime import datetime

import msgspec

from hogsend.contract import subjects
from hogsend.contract.headers import CORRELATION_ID, MESSAGE_ID, RECEIVED_AT, format_time
from hogsend.contract.webhooks import PostHogWebhook
from services.gateway.webhooks.queued_webhook import QueuedWebhook

POSTHOG = "posthog"

_PATH = re.compile(r" - at `\$\.([^.`\[]+)[^`]*`$")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_MISSING = re.compile(r"missing required field `([^`]+)`$")

_decode = msgspec.json.Decoder(PostHogWebhook).decode


class InvalidPayloadError(Exception):
    """The body is JSON of another shape; `field` is the top-level key in question, if any."""

    def __init__(self, problem: str, field: str | None = None) -> None:
        super().__init__(problem)
        self.field = field


class MalformedJSONError(Exception):
    """The body is not JSON."""


def parse_posthog(body: bytes) -> tuple[PostHogWebhook, bytes]:
    """Check a body against what PostHog sends (contract 5.3).

    Returns:
        The webhook, and the body to queue: the received one, or a repaired copy.

    Raises:
        MalformedJSONError: not JSON, not UTF-8, or nested beyond reason.
        InvalidPayloadError: JSON of another shape, or an event without an identity.
    """
    try:
        str(body, "utf-8")
        body = _replace_lone_surrogates(body)
        webhook = _decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise MalformedJSONError from None
    if not webhook.has_identity:
        raise InvalidPayloadError("needs a distinct_id, or a person with an email", "event")
    return webhook, body


def queued_posthog_webhook(
    webhook: PostHogWebhook, body: bytes, received_at: datetime, correlation_id: str
) -> QueuedWebhook:
    """Make the message that is queued for ingest, deduplicated by the event's id."""
    id = webhook.event_id(body)
    headers = {
        MESSAGE_ID: id,
        RECEIVED_AT: format_time(received_at),
        CORRELATION_ID: correlation_id,
    }
    return QueuedWebhook(id, subjects.webhook(POSTHOG), headers, body)


def _replace_lone_surrogates(body: bytes) -> bytes:
    # JavaScript may cut a string within an emoji and escape the lone half. JSON parsers of other
    # languages refuse that, so the half character is replaced and the event kept.
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    text = json.dumps(json.loads(body), ensure_ascii=False)
    return _LONE_SURROGATE.sub("\ufffd", text).encode()


def _invalid(problem: str) -> InvalidPayloadError:
    if at := _PATH.search(problem):
        return InvalidPayloadError(problem[: at.start()], at[1])
    if missing := _MISSING.search(problem):
        return InvalidPayloadError("Required", missing[1])
    return InvalidPayloadError(problem)
