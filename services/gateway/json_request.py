"""The request class of all routes, which decodes JSON bodies itself."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.exceptions import HTTPException, InternalServerException

from services.gateway.json_body import decode_json


class IncompleteBody(HTTPException):
    """The client disconnected during the body, or the body's chunked encoding is malformed.

    The server reports both as a disconnect. In the second case, and if only the client's sending
    side is closed, the client receives the response.
    """

    status_code = 400
    detail = "The request body is incomplete, or its chunked encoding is malformed"


class JSONRequest(Request[Any, Any, Any]):
    """A request whose JSON body is decoded by `decode_json` instead of Litestar.

    Litestar reports some valid JSON as malformed, and accepts 0 for false and "1" for true.
    """

    async def body(self) -> bytes:
        """Return the body.

        Raises:
            IncompleteBody: the body did not arrive completely.
        """
        try:
            return await super().body()
        except InternalServerException:
            # Litestar answers 500 for a body that ends early.
            raise IncompleteBody from None

    async def json(self) -> Any:
        """Decode the body as the type of the handler's parameter `data`.

        Raises:
            IncompleteBody: see `body`.
            TooLarge: the decoded body would take too much memory.
            MalformedBodyError: see `decode_json`.
            InvalidBodyError: see `decode_json`.
        """
        data = self.route_handler.parsed_fn_signature.parameters["data"]
        body = await self.body()
        await self.app.state.decoded_bodies.admit(self.scope, body)
        return decode_json(body, data.annotation)
