"""The metrics of ingest."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

from hogsend.contract.activity import Activity, IngestActivity
from hogsend.contract.streams import StreamName
from hogsend.service.activity import distribution, level, total
from hogsend.service.metrics import STREAM_MESSAGES, DeprecatedName
from hogsend.service.queued_message import QueuedMessage
from services.ingest.oldest_webhook import waited_seconds

STORED = Counter("hogsend_ingest_events_stored", "Events stored for the first time")
DUPLICATES = Counter("hogsend_ingest_duplicates", "Messages whose event was stored already")
PUBLISHED = Counter("hogsend_ingest_events_announced", "Events published, repeats included")
DEAD_LETTERS = Counter(
    "hogsend_ingest_dead_letters", "Messages replaced by a dead letter", ["reason"]
)
UNDELIVERABLE = Counter(
    "hogsend_ingest_undeliverable",
    "Messages too large for a dead letter, even compressed; they stay queued and are redelivered",
)
CONSUMERS_REFUSED = Counter(
    "hogsend_ingest_consumers_refused", "Consumers others may not make or delete", ["verb"]
)
NAKS = Counter("hogsend_ingest_nak", "Messages returned to the queue when ingest stops")
DeprecatedName(UNDELIVERABLE, "hogsend_ingest_parked")
DeprecatedName(NAKS, "hogsend_ingest_given_back")
PARTITIONS = Gauge("hogsend_ingest_partitions", "Partitions of webhooks this replica consumes")
LAG = Gauge(
    "hogsend_ingest_lag",
    "Messages that waited in a stream after the last one that this replica read",
    ["stream"],
)
LAG_SECONDS = Gauge(
    "hogsend_ingest_lag_seconds",
    "How long the last message that was read had waited in its stream",
    ["stream"],
)
ANNOUNCED_SECONDS = Histogram(
    "hogsend_ingest_announced_seconds",
    "From the receipt of an event to its announcement",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
)
BATCH_SECONDS = Histogram(
    "hogsend_ingest_batch_seconds",
    "From a batch's arrival to its acknowledgement",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
BATCH_SIZE = Histogram(
    "hogsend_ingest_batch_size",
    "Messages in a batch",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000),
)


@contextmanager
def measured(messages: Sequence[QueuedMessage]) -> Iterator[None]:
    """Measure the batch that the block processes, and how many messages wait after it."""
    delivery = messages[-1].metadata
    BATCH_SIZE.observe(len(messages))
    LAG.labels(delivery.stream).set(delivery.num_pending)
    waited = time.time() - delivery.timestamp.timestamp()
    LAG_SECONDS.labels(delivery.stream).set(max(waited, 0))
    started = time.perf_counter()
    yield
    BATCH_SECONDS.observe(time.perf_counter() - started)


def activity() -> Activity:
    """Return what this process has done since its start, for the console."""
    return Activity(
        ingest=IngestActivity(
            stored=total(STORED),
            duplicates=total(DUPLICATES),
            announced=total(PUBLISHED),
            dead_letters=total(DEAD_LETTERS),
            waiting=int(level(STREAM_MESSAGES, stream=StreamName.WEBHOOKS)),
            waited_seconds=waited_seconds(),
            announced_seconds=distribution(ANNOUNCED_SECONDS),
        )
    )
