"""Routes to which SDKs send events: `/i/v0/e/`, `/e/`, `/capture/`, `/track/`, `/batch/`."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency

from sandbox.ingestion.decoding import decode
from sandbox.ingestion.events import read_events
from sandbox.instance import Instance

PATHS = ["/i/v0/e", "/e", "/capture", "/track", "/batch"]


class CaptureAnswer(msgspec.Struct, frozen=True):
    """The answer to accepted events (rust/capture/src/api.rs)."""

    status: str = "Ok"


@post(PATHS, status_code=200)
async def capture(
    request: Request[Any, Any, Any], instance: NamedDependency[Instance]
) -> Response[CaptureAnswer | None]:
    """Capture one event or several; a page that is left (`?beacon=1`) is answered 204.

    Events with an unknown project key are accepted, then dropped (rust/capture/src/token.rs).
    """
    document = decode(
        await request.body(),
        request.headers.get("Content-Type", ""),
        request.headers.get("Content-Encoding", ""),
        request.query_params.get("compression", ""),
    )
    instance.pipeline.ingest(read_events(document, instance.clock.now()))
    if request.query_params.get("beacon") == "1":
        return Response(None, status_code=204)
    return Response(CaptureAnswer())
