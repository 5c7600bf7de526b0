"""The gateway with an additional route that echoes the body, in the same process."""

from __future__ import annotations

from typing import Any

import uvloop
from litestar import Litestar, Request, Response, post

from services.gateway import api, app, process


@post("/echo", status_code=200)
async def echo(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Respond with the body of the request."""
    return Response(await request.body(), media_type="application/json")


def build_with_echo(*parts: Any, **more: Any) -> Litestar:
    """Build the gateway and add the route `/echo`."""
    litestar = api.build(*parts, **more)
    litestar.register(echo)
    return litestar


if __name__ == "__main__":
    vars(app)["build"] = build_with_echo
    # The entry point of the real gateway, which also configures the garbage collector.
    uvloop.run(process.run())
