"""Requests with a JSON body, as the routes take them."""

from __future__ import annotations

from typing import Any

from litestar import Request

from services.gateway.json_body import decode_json


class JSONRequest(Request[Any, Any, Any]):
    """A request whose body Litestar does not decode.

    It calls too much of JSON malformed, and takes 0 for false and "1" for true.
    """

    async def json(self) -> Any:
        """Decode the body as the type of the handler's `data`; raises like `decode_json`.

        Raises:
            TooLarge: decoded it would take too much memory.
        """
        data = self.route_handler.parsed_fn_signature.parameters["data"]
        body = await self.body()
        await self.app.state.decoded_bodies.admit(self.scope, body)
        return decode_json(body, data.annotation)
