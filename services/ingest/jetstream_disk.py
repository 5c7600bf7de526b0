"""Measures how many bytes JetStream stores for the NATS account, and how many it may store.

That includes streams that are not Hogsend's own.
"""

from __future__ import annotations

import asyncio
from typing import Never

import msgspec
import structlog
from prometheus_client import Gauge

from hogsend.contract.consumers import API
from hogsend.contract.errors import Forbidden
from hogsend.contract.json_text import NOT_JSON
from hogsend.service import metrics
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE

log = structlog.get_logger(__name__)

EVERY_SECONDS = 5.0
REFUSED_SECONDS = 300.0
"""Pause after a measurement that NATS did not permit."""
REPLY_SECONDS = 5.0

USED = Gauge(
    "hogsend_jetstream_bytes",
    "Bytes that all streams of the NATS account take, those that are not Hogsend's included",
    ["storage"],
)
RESERVED = Gauge(
    "hogsend_jetstream_reserved_bytes",
    "Bytes that these streams may take by their limits",
    ["storage"],
)
LIMIT = Gauge(
    "hogsend_jetstream_limit_bytes",
    "Bytes that JetStream may take for the NATS account; absent without a limit of the account",
    ["storage"],
)


class Limits(msgspec.Struct, frozen=True):
    """Bytes that an account may store; 0 or less without a limit, or with a limit for each tier."""

    max_memory: int = 0
    max_storage: int = 0


class Account(msgspec.Struct, frozen=True):
    """JetStream's reply about the account, in bytes."""

    memory: int
    storage: int
    limits: Limits
    reserved_memory: int = 0
    reserved_storage: int = 0


_decode = msgspec.json.Decoder(Account).decode


async def measure_forever(link: Connection) -> Never:
    """Measure regularly; never ends."""
    while True:
        seconds = await measure(link)
        await asyncio.sleep(seconds)


async def measure(link: Connection) -> float:
    """Set the gauges; remove them while the figures are unknown.

    Returns:
        In how many seconds to measure again.
    """
    if not link.connected:
        _clear()
        return EVERY_SECONDS
    try:
        account = _decode((await link.request_raw(f"{API}.INFO", b"", seconds=REPLY_SECONDS)).data)
    except (Forbidden, *NOT_JSON, *UNREACHABLE) as error:
        metrics.FAILURES.labels("jetstream_disk", type(error).__name__).inc()
        _clear()
        if not isinstance(error, Forbidden):
            return EVERY_SECONDS
        log.warning(
            "the disk of JetStream is not measured",
            reason=str(error),
            fix=error.fix,
        )
        return REFUSED_SECONDS
    _set("file", account.storage, account.reserved_storage, account.limits.max_storage)
    _set("memory", account.memory, account.reserved_memory, account.limits.max_memory)
    return EVERY_SECONDS


def _clear() -> None:
    for gauge in (USED, RESERVED, LIMIT):
        gauge.clear()


def _set(storage: str, used: int, reserved: int, limit: int) -> None:
    USED.labels(storage).set(used)
    RESERVED.labels(storage).set(reserved)
    if limit > 0:
        LIMIT.labels(storage).set(limit)
    else:
        LIMIT.remove(storage)
