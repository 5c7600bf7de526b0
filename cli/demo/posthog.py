"""The demo's PostHog: the sandbox as a program, and a client of it."""

from __future__ import annotations

import asyncio
import uuid

import msgspec

from cli.local_http import local_http
from cli.stack.local_sandbox import LocalSandbox

TOKEN_SECONDS = 75
"""Lifetime of an access token. Its refresh, 60 s before expiry, then happens during the demo."""


class _Attempt(msgspec.Struct, frozen=True):
    milliseconds: float


class _Delivery(msgspec.Struct, frozen=True):
    event_uuid: str
    outcome: str
    attempts: list[_Attempt]


class _Captured(msgspec.Struct, frozen=True):
    event: str
    distinct_id: str


class _State(msgspec.Struct, frozen=True):
    deliveries: list[_Delivery]
    events: list[_Captured]


class DemoPostHog(LocalSandbox):
    """A sandbox with short-lived tokens, and a client of it."""

    def __init__(self, port: int, gateway_port: int) -> None:
        """Configure the sandbox to listen on `port` and to deliver to the gateway."""
        super().__init__(port, gateway_port, token_seconds=TOKEN_SECONDS)
        self._http = local_http(self.options.url)

    async def capture(self, event: str, distinct_id: str, email: str) -> str:
        """Capture an event of an identified person and return its UUID."""
        event_uuid = str(uuid.uuid4())
        body = self.event(event, distinct_id, email) | {"uuid": event_uuid}
        response = await self._http.post("/i/v0/e/", json=body)
        response.raise_for_status()
        return event_uuid

    async def wait_for_delivery(self, event_uuid: str) -> float:
        """Wait until an event is delivered; return the gateway's response time in milliseconds."""
        while True:
            for delivery in (await self._state()).deliveries:
                if delivery.event_uuid == event_uuid and delivery.outcome == "delivered":
                    return delivery.attempts[-1].milliseconds
            await asyncio.sleep(0.02)

    async def wait_for_capture(self, event: str, distinct_id: str) -> None:
        """Wait until the sandbox has captured an event of a person."""
        captured = _Captured(event, distinct_id)
        while True:
            if captured in (await self._state()).events:
                return
            await asyncio.sleep(0.02)

    async def _state(self) -> _State:
        return msgspec.json.decode((await self._http.get("/_sandbox/state")).content, type=_State)

    async def close(self) -> None:
        """Close the client's connections."""
        await self._http.aclose()
