"""Measures how long the oldest webhook has waited in JetStream, also while ingest reads none."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Never

import msgspec
import structlog
from prometheus_client import Gauge

from hogsend.contract.consumers import API
from hogsend.contract.errors import Forbidden
from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.streams import StreamName
from hogsend.service import metrics
from hogsend.service.activity import level
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE

log = structlog.get_logger(__name__)

EVERY_SECONDS = 5.0
REPLY_SECONDS = 5.0
STREAM = StreamName.WEBHOOKS

OLDEST = Gauge(
    "hogsend_stream_oldest_timestamp_seconds",
    "When the oldest message of a stream arrived, as Unix time; absent while the stream is empty "
    "or cannot be read",
    ["stream"],
)


class State(msgspec.Struct, frozen=True):
    """A stream's state; nats-py does not decode `first_ts`."""

    messages: int
    first_ts: datetime


class Info(msgspec.Struct, frozen=True):
    """JetStream's reply about a stream."""

    state: State


_decode = msgspec.json.Decoder(Info).decode


async def measure_forever(link: Connection) -> Never:
    """Measure regularly; never ends."""
    while True:
        await measure(link)
        await asyncio.sleep(EVERY_SECONDS)


async def measure(link: Connection) -> None:
    """Set the gauge; remove it while no webhook waits, or the stream cannot be read."""
    oldest = await _oldest(link)
    if oldest is None:
        OLDEST.clear()
    else:
        OLDEST.labels(STREAM).set(oldest.timestamp())


def waited_seconds() -> float:
    """How long the oldest webhook has waited by the last measurement; 0 without webhooks."""
    arrived = level(OLDEST, stream=STREAM)
    return max(0.0, time.time() - arrived) if arrived else 0.0


async def _oldest(link: Connection) -> datetime | None:
    if not link.connected:
        return None
    try:
        reply = await link.request_raw(f"{API}.STREAM.INFO.{STREAM}", b"", seconds=REPLY_SECONDS)
        state = _decode(reply.data).state
    except (Forbidden, *NOT_JSON, *UNREACHABLE) as error:
        metrics.FAILURES.labels("oldest_webhook", type(error).__name__).inc()
        log.debug("the oldest webhook is unknown", reason=str(error) or type(error).__name__)
        return None
    return state.first_ts if state.messages else None
