"""The demo's PostHog: the sandbox as a program, and a client for it."""

from __future__ import annotations

import asyncio
import sys
import uuid
from pathlib import Path

import httpx
import msgspec

from cli.stack.environment import minimal_environment
from cli.stack.supervisor import Program
from sandbox.options import Options, Resolve

PUBLIC_HOST = "hogsend.test"
"""Stands for a gateway's public host name: PostHog refuses to deliver to loopback addresses, so
`API_PUBLIC_URL` must not be one. Only the sandbox resolves it (`--resolve`)."""

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


class DemoPostHog:
    """A sandbox PostHog and its one project."""

    def __init__(self, port: int, gateway_port: int) -> None:
        """Configure it to listen on `port` and to deliver to the gateway."""
        self.options = Options(
            port=port,
            auto_consent=True,
            allow_http_clients=True,
            token_seconds=TOKEN_SECONDS,
            resolve=(Resolve(PUBLIC_HOST, "127.0.0.1", gateway_port),),
        )
        self.public_url = f"http://{PUBLIC_HOST}:{gateway_port}"
        self._http = httpx.AsyncClient(base_url=self.options.url, timeout=5.0)

    def program(self, python_path: str, directory: Path) -> Program:
        """Return the program that runs it."""
        (resolve,) = self.options.resolve
        return Program(
            "sandbox",
            [
                *(sys.executable, "-m", "cli.main", "sandbox", "--auto-consent"),
                *("--allow-http-clients", "--port", str(self.options.port)),
                *("--token-seconds", str(self.options.token_seconds)),
                *("--resolve", f"{resolve.host}={resolve.address}:{resolve.port}"),
            ],
            {**minimal_environment(), "PYTHONPATH": python_path},
            directory=directory,
        )

    @property
    def settings(self) -> dict[str, str]:
        """Settings of a stack that uses this PostHog."""
        return {
            "POSTHOG_HOST": self.options.url,
            "POSTHOG_API_KEY": self.options.project_key,
            "API_PUBLIC_URL": self.public_url,
            "ENABLE_POSTHOG_DESTINATION": "true",
        }

    def curl(self, event: str, distinct_id: str) -> str:
        """Return a shell command that captures an event."""
        body = msgspec.json.encode(self._event(event, distinct_id, None)).decode()
        return f"curl {self.options.url}/i/v0/e/ -H 'Content-Type: application/json' -d '{body}'"

    async def capture(self, event: str, distinct_id: str, email: str) -> str:
        """Capture an event of an identified person and return its uuid."""
        event_uuid = str(uuid.uuid4())
        body = self._event(event, distinct_id, email) | {"uuid": event_uuid}
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

    def _event(self, event: str, distinct_id: str, email: str | None) -> dict[str, object]:
        properties: dict[str, object] = {"$is_identified": True, "plan": "free"}
        if email is not None:
            properties["$set"] = {"email": email, "plan": "free"}
        return {
            "api_key": self.options.project_key,
            "event": event,
            "distinct_id": distinct_id,
            "properties": properties,
        }
