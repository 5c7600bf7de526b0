"""Routes to which SDKs send events: `/i/v0/e/`, `/batch/`, and the older `/e/` and its like."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import HttpMethod, Request, Response, route
from litestar.di import NamedDependency

from sandbox.ingestion.decoding import Payload, decode
from sandbox.ingestion.events import read_events
from sandbox.instance import Instance

LEGACY = ("/e", "/capture", "/track", "/engage")
"""They take base64 off once more after decompressing."""
PATHS = ["/i/v0/e", "/batch", *LEGACY]

MIN_SENT_AT = 1_609_459_200.0
"""2021-01-01: `_` is milliseconds, and old SDKs sent seconds."""


class CaptureAnswer(msgspec.Struct, frozen=True):
    """The answer to accepted events (rust/capture/src/api.rs)."""

    status: str = "Ok"


@route(PATHS, http_method=[HttpMethod.GET, HttpMethod.POST], status_code=200)
async def capture(
    request: Request[Any, Any, Any], instance: NamedDependency[Instance]
) -> Response[CaptureAnswer | None]:
    """Capture one event or several; a page that is left (`?beacon=1`) is answered 204.

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
            unwraps_base64=path in LEGACY,
        )
    )
    events = read_events(
        document,
        instance.clock.now(),
        engages=path == "/engage",
        sent_at=_sent_at(query.get("_", "")),
    )
    instance.pipeline.ingest(events)
    if query.get("beacon") == "1":
        return Response(None, status_code=204)
    return Response(CaptureAnswer())


def _sent_at(text: str) -> float | None:
    """Read the query parameter `_`, milliseconds by the client's clock."""
    seconds = int(text) / 1000 if text.isdecimal() else 0.0
    return seconds if seconds >= MIN_SENT_AT else None
