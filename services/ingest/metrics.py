"""What ingest counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from hogsend.service.metrics import DeprecatedName

STORED = Counter("hogsend_ingest_events_stored", "Events stored for the first time")
DUPLICATES = Counter("hogsend_ingest_duplicates", "Messages whose event was stored already")
PUBLISHED = Counter("hogsend_ingest_events_announced", "Events published, repeats included")
DEAD_LETTERS = Counter("hogsend_ingest_dead_letters", "Messages set aside", ["reason"])
UNDELIVERABLE = Counter(
    "hogsend_ingest_undeliverable",
    "Messages too large to be set aside; they stay queued and come back",
)
NAKS = Counter("hogsend_ingest_nak", "Messages returned to the queue when ingest stops")
DeprecatedName(UNDELIVERABLE, "hogsend_ingest_parked")
DeprecatedName(NAKS, "hogsend_ingest_given_back")
LAG = Gauge("hogsend_ingest_lag", "Messages that wait in a stream", ["stream"])
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
