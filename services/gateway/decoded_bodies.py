"""Limits the memory of decoded JSON bodies until their requests are answered.

`body_budget` limits the memory of encoded bodies. A decoded body may take 44 times as much.
"""

from __future__ import annotations

from litestar.types import ASGIApp, Receive, Scope, Send

from hogsend.service.request_memory import RequestMemory

_RESERVED_STATE = "decoded_bytes"
"""Key of the request's state: bytes that are reserved for its decoded body."""


class DecodedBodies:
    """Reserves memory for the decoded bodies of all requests."""

    def __init__(self) -> None:
        self.memory = RequestMemory()

    async def admit(self, scope: Scope, body: bytes) -> None:
        """Wait until the decoded body of a request fits into memory, and reserve the memory.

        Raises:
            TooLarge: this body alone would exceed the limit for all bodies.
        """
        scope["state"][_RESERVED_STATE] = await self.memory.admit(body)

    def released_after(self, app: ASGIApp) -> ASGIApp:
        """Wrap `app` so that a request's memory is released once it is answered."""

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            finally:
                if reserved := scope.get("state", {}).pop(_RESERVED_STATE, 0):
                    self.memory.release(reserved)

        return wrapped
