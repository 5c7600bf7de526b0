"""Routes to which SDKs send events: `/i/v0/e/`, `/batch/`, older ones such as `/e/`, and v1."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import HttpMethod, Request, Response, post, route
from litestar.di import NamedDependency

from sandbox.ingestion.batch_headers import read_headers
from sandbox.ingestion.batches import Outcome, read_batch
from sandbox.ingestion.decoding import Payload, decode
from sandbox.ingestion.events import MAX_AI_EVENT_BYTES, MAX_EVENT_BYTES, read_events
from sandbox.instance import Instance

LEGACY = ("/e", "/capture", "/track", "/engage")
"""Paths whose bodies may be base64 after decompression."""
AI_BATCH = "/i/v0/ai/batch"
"""The path to which SDKs send AI events that may be large."""
PATHS = ["/i/v0/e", "/batch", AI_BATCH, *LEGACY]

MIN_SENT_AT = 1_609_459_200.0
"""2021-01-01. `_` is in milliseconds, but old SDKs send seconds, which are before this date."""


class CaptureResponse(msgspec.Struct, frozen=True):
    """The response to accepted events (rust/capture/src/api.rs)."""

    status: str = "Ok"


@route(PATHS, http_method=[HttpMethod.GET, HttpMethod.POST], status_code=200)
async def capture(
    request: Request[Any, Any, Any], instance: NamedDependency[Instance]
) -> Response[CaptureResponse | None]:
    """Capture one or more events. A browser's beacon (`?beacon=1`) gets a 204.

    Events with an unknown project key are accepted, then dropped (rust/capture/src/token.rs).
    """
    path = request.url.path.rstrip("/")
    query = request.query_params
    document = decode(
        Payload(
            body=await request.body(),
            content_type=request.headers.get("Content-Type", ""),
            encoding=request.headers.get("Content-Encoding", ""),
            compression=query.get("compression", ""),
            data=query.get("data", ""),
            may_be_base64=path in LEGACY,
        )
    )
    events = read_events(
        document,
        instance.clock.now(),
        is_engage=path == "/engage",
        sent_at=_sent_at(query.get("_", "")),
        max_event_bytes=MAX_AI_EVENT_BYTES if path == AI_BATCH else MAX_EVENT_BYTES,
    )
    instance.pipeline.ingest(events)
    if query.get("beacon") == "1":
        return Response(None, status_code=204)
    return Response(CaptureResponse())


class BatchResponse(msgspec.Struct, frozen=True):
    """The outcome of each event by uuid (rust/capture/src/v1/analytics/response.rs)."""

    results: dict[str, Outcome]


@post("/i/v1/analytics/events", status_code=200)
async def capture_batch(
    request: Request[Any, Any, Any], instance: NamedDependency[Instance]
) -> BatchResponse:
    """Capture a batch of capture v1, which SDKs use with `capture_mode="v1"`."""
    sender = read_headers(request.headers)
    batch = read_batch(sender, await request.body(), instance.clock.now())
    instance.pipeline.ingest(batch.accepted)
    return BatchResponse(batch.results)


def _sent_at(text: str) -> float | None:
    """Parse the query parameter `_`, the client's time in milliseconds."""
    seconds = int(text) / 1000 if text.isdecimal() else 0.0
    return seconds if seconds >= MIN_SENT_AT else None
