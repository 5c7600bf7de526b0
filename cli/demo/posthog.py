"""The demo's PostHog: the sandbox as a program, and a client for it."""

from __future__ import annotations

import asyncio
import uuid

import msgspec

from cli.own_http import own_http
from cli.stack.stand_in import StandIn

TOKEN_SECONDS = 75
"""Short, so that the refresh 60 s before expiry happens during the demo."""


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


class DemoPostHog(StandIn):
    """A sandbox PostHog whose tokens end soon, and a client for it."""

    def __init__(self, port: int, gateway_port: int) -> None:
        """Configure it to listen on `port` and to deliver to the gateway."""
        super().__init__(port, gateway_port, token_seconds=TOKEN_SECONDS)
        self._http = own_http(self.options.url)

    async def capture(self, event: str, distinct_id: str, email: str) -> str:
        """Capture an event of an identified person and return its uuid."""
        event_uuid = str(uuid.uuid4())
        body = self.event(event, distinct_id, email) | {"uuid": event_uuid}
        answer = await self._http.post("/i/v0/e/", json=body)
        answer.raise_for_status()
        return event_uuid

    async def wait_for_delivery(self, event_uuid: str) -> float:
        """Wait until an event is delivered; return how long the gateway took to answer, in ms."""
        while True:
            for delivery in (await self._state()).deliveries:
                if delivery.event_uuid == event_uuid and delivery.outcome == "delivered":
                    return delivery.attempts[-1].milliseconds
            await asyncio.sleep(0.02)

    async def wait_for_capture(self, event: str, distinct_id: str) -> None:
        """Wait until PostHog has captured an event of a person."""
        wanted = _Captured(event, distinct_id)
        while True:
            if wanted in (await self._state()).events:
                return
            await asyncio.sleep(0.02)

    async def _state(self) -> _State:
        return msgspec.json.decode((await self._http.get("/_sandbox/state")).content, type=_State)

    async def close(self) -> None:
        """Close the client's connections."""
        await self._http.aclose()
