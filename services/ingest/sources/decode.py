"""Decodes messages of ingest's streams with the decoder of their source."""

from __future__ import annotations

from hogsend.contract import subjects, webhooks
from hogsend.service.dead_letters import Unprocessable
from hogsend.service.queued_message import QueuedMessage, queued_at
from services.ingest.incoming_event import IncomingEvent
from services.ingest.sources import engagement as engagement_source
from services.ingest.sources import posthog as posthog_source

_SOURCES = {webhooks.SOURCE: posthog_source.decode}


def decode_webhook(message: QueuedMessage) -> IncomingEvent:
    """Decode a message of the webhook stream; its subject names its source.

    Raises:
        Unprocessable: no retry can help.
    """
    source = subjects.webhook_source(message.subject)
    if (decode := _SOURCES.get(source)) is None:
        raise Unprocessable("unknown_source", "there is no decoder for this source")
    return decode(message.data, message.headers or {}, queued_at(message))


def decode_engagement(message: QueuedMessage) -> IncomingEvent | None:
    """Decode a message of the engagement stream; returns None if there is nothing to store.

    Raises:
        Unprocessable: no retry can help.
    """
    metadata = message.metadata
    return engagement_source.decode(
        message.subject,
        message.data,
        message.headers or {},
        metadata.sequence.stream,
        metadata.timestamp,
    )
