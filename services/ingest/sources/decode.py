"""What messages of ingest's streams mean, by where they come from."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from nats.aio.msg import Msg

from services.ingest.events.incoming_event import Delivery, Unprocessable
from services.ingest.sources import engagement as engagement_source
from services.ingest.sources import posthog as posthog_source

_SOURCES = {posthog_source.SOURCE: posthog_source.decode}


def read_webhook(message: Msg) -> Delivery:
    """Read a message of the webhook stream; the subject's last token is its source.

    Raises:
        Unprocessable: no retry will help.
    """
    source = message.subject.rpartition(".")[2]
    if (decode := _SOURCES.get(source)) is None:
        raise Unprocessable("unknown_source", "no service reads this source")
    return decode(message.data, message.headers or {}, partial(_queued_at, message))


def read_engagement(message: Msg) -> Delivery | None:
    """Read a message of the engagement stream; None when there is nothing to record.

    Raises:
        Unprocessable: no retry will help.
    """
    metadata = message.metadata
    return engagement_source.decode(
        message.subject,
        message.data,
        message.headers or {},
        metadata.sequence.stream,
        metadata.timestamp,
    )


def _queued_at(message: Msg) -> datetime:
    return message.metadata.timestamp
