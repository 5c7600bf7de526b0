"""The request class of all routes, which decodes JSON bodies itself."""

from __future__ import annotations

from typing import Any

from litestar import Request

from services.gateway.json_body import decode_json


class JSONRequest(Request[Any, Any, Any]):
    """A request whose JSON body is decoded by `decode_json` instead of Litestar.

    Litestar reports some valid JSON as malformed, and accepts 0 for false and "1" for true.
    """

    async def json(self) -> Any:
        """Decode the body as the type of the handler's parameter `data`.

        Raises:
            TooLarge: the decoded body would take too much memory.
            MalformedBodyError: see `decode_json`.
            InvalidBodyError: see `decode_json`.
        """
        data = self.route_handler.parsed_fn_signature.parameters["data"]
        body = await self.body()
        await self.app.state.decoded_bodies.admit(self.scope, body)
        return decode_json(body, data.annotation)
