"""PostHog's webhook: checks its body, and creates the message that is queued for ingest."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

import msgspec

from hogsend.contract import subjects
from hogsend.contract.errors import TooLarge
from hogsend.contract.headers import (
    CORRELATION_ID,
    MESSAGE_ID,
    ORIGINAL_ID,
    RECEIVED_AT,
    event_message_id,
    format_time,
)
from hogsend.contract.json_numbers import TooManyValues, decoder
from hogsend.contract.json_text import NOT_JSON, is_too_deep, repaired_json
from hogsend.contract.mismatch import Mismatch
from hogsend.contract.partitions import slot_of
from hogsend.contract.webhooks import SOURCE, PostHogWebhook
from services.gateway.json_body import REQUIRED, TOO_DEEP, MalformedBodyError, why_not_decoded
from services.gateway.webhooks.queued_webhook import QueuedWebhook

_decode = decoder(PostHogWebhook)


class InvalidPayloadError(Exception):
    """The body is JSON, but not as PostHog sends it. `field` is the wrong top-level key, if any."""

    def __init__(self, problem: str, field: str | None = None) -> None:
        super().__init__(problem)
        self.field = field


class MalformedJSONError(Exception):
    """The body is not JSON."""


def parse_posthog(body: bytes) -> tuple[PostHogWebhook, bytes]:
    """Decode and check a body (contract 5.3).

    Returns:
        The webhook, and the body to queue: the received one, or a repaired copy.

    Raises:
        MalformedJSONError: the body is not JSON, or not UTF-8.
        InvalidPayloadError: it has other fields than PostHog sends, or the event has no identity.
        TooLarge: it would take too much memory when decoded.
    """
    body = repaired_json(body)
    try:
        str(body, "utf-8")
        if is_too_deep(body):
            raise InvalidPayloadError(TOO_DEEP)
        webhook = _decode(body)
    except TooManyValues as error:
        raise TooLarge(str(error)) from None
    except msgspec.ValidationError as error:
        raise _invalid(Mismatch.of(error)) from None
    except NOT_JSON as error:
        try:
            raise InvalidPayloadError(why_not_decoded(body, error)) from None
        except MalformedBodyError:
            raise MalformedJSONError from None
    if not webhook.has_identity:
        raise InvalidPayloadError("needs a distinct_id, or a person with an email", "event")
    return webhook, body


def queued_posthog_webhook(
    webhook: PostHogWebhook,
    body: bytes,
    received_at: datetime,
    correlation_id: str,
    *,
    in_order: bool = False,
) -> QueuedWebhook:
    """Create the message that is queued for ingest.

    JetStream and ingest deduplicate it by its id, which is derived from the event's id. An event
    without an id gets a random one here. With `in_order`, the subject includes the slot of the
    event's person.

    Invariant: a webhook keeps its id from here on, in the spool and with every redelivery.
    Why: the id is created once, and is part of the message.
    Without it: a webhook that is published twice would be stored as two events.
    """
    event, event_id = webhook.event, webhook.event_id
    id = event_message_id(
        source=SOURCE,
        id=event_id or str(uuid4()),
        event=event.event,
        user_id=event.distinct_id,
    )
    headers = {
        MESSAGE_ID: id,
        RECEIVED_AT: format_time(received_at),
        CORRELATION_ID: correlation_id,
    }
    if event_id:
        # During an upgrade ingest of version 0.1.0 may still run. It stores the event under this
        # id. Without the header it would use the message's id, and newer versions would store the
        # same event again.
        headers[ORIGINAL_ID] = event_id
    slot = slot_of(event.distinct_id, webhook.email) if in_order else None
    return QueuedWebhook(id, subjects.webhook(SOURCE, slot), headers, body)


def _invalid(mismatch: Mismatch) -> InvalidPayloadError:
    if mismatch.path:
        return InvalidPayloadError(mismatch.reason, mismatch.path[0].partition("[")[0])
    if mismatch.missing:
        return InvalidPayloadError(REQUIRED, mismatch.missing)
    return InvalidPayloadError(mismatch.reason)
