"""How much memory JSON bodies take once they are decoded, until their requests are answered.

What a body takes as text is bounded by `body_budget`; decoded it may be 36 times as much.
"""

from __future__ import annotations

from litestar.types import ASGIApp, Receive, Scope, Send

from hogsend.service.request_memory import RequestMemory

_TAKEN_STATE = "decoded_bytes"


class DecodedBodies:
    """The decoded bodies of all requests."""

    def __init__(self) -> None:
        self.memory = RequestMemory()

    async def admit(self, scope: Scope, body: bytes) -> None:
        """Wait until there is memory to decode a request's body.

        Raises:
            TooLarge: it would take more than all may.
        """
        scope["state"][_TAKEN_STATE] = await self.memory.admit(body)

    def freed_by(self, app: ASGIApp) -> ASGIApp:
        """Wrap `app` so that a request's memory is free again once it is answered."""

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            finally:
                if taken := scope.get("state", {}).pop(_TAKEN_STATE, 0):
                    self.memory.release(taken)

        return wrapped
