"""A sandbox that listens on a port, a client of it, and a receiver of its webhooks."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from hogsend.posthog.client_document import CLIENT_ID
from hogsend.posthog.scopes import SCOPES
from sandbox.app import serving
from sandbox.instance import Instance
from sandbox.options import Options
from tests.ports import free_port
from tests.waiting import PATIENCE_SECONDS

REDIRECT_URI = "http://127.0.0.1:8424/callback"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
FUNCTIONS = "/api/projects/4242/hog_functions/"


@dataclass
class Driver:
    """A running sandbox, and an HTTP client of it."""

    instance: Instance
    http: httpx.AsyncClient

    @property
    def url(self) -> str:
        return self.instance.options.url

    @property
    def key(self) -> dict[str, str]:
        """Headers with the personal API key."""
        return bearer(self.instance.options.personal_key)

    async def code(self, **changes: str) -> str:
        """Request an authorization code. The sandbox has to grant consent automatically."""
        response = await self.http.get("/oauth/authorize/", params=authorization(**changes))
        return callback(response)["code"]

    async def exchange(self, code: str | None, **changes: str | None) -> httpx.Response:
        fields: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT_URI,
            "client_id": CLIENT_ID,
            "code_verifier": VERIFIER,
        }
        return await self.http.post("/oauth/token/", data=_without_none(fields | changes))

    async def tokens(self, **changes: str) -> dict[str, Any]:
        """Run the whole flow; return the body of the token response."""
        return (await self.exchange(await self.code(**changes))).json()

    async def refresh(self, token: str, **changes: str) -> httpx.Response:
        fields = {"grant_type": "refresh_token", "refresh_token": token, "client_id": CLIENT_ID}
        return await self.http.post("/oauth/token/", data=fields | changes)

    async def create(self, **changes: Any) -> dict[str, Any]:
        """Create the function that Hogsend creates, with `changes`."""
        response = await self.http.post(FUNCTIONS, json=function(**changes), headers=self.key)
        assert response.status_code == 201, response.text
        return response.json()

    async def capture(self, event: str, distinct_id: str = "u_1", **fields: Any) -> httpx.Response:
        key = self.instance.options.project_key
        body = {"api_key": key, "event": event, "distinct_id": distinct_id, **fields}
        return await self.http.post("/i/v0/e/", json=body)

    async def state(self) -> dict[str, Any]:
        return (await self.http.get("/_sandbox/state")).json()

    async def advance(self, seconds: float) -> None:
        await self.http.post("/_sandbox/clock", json={"seconds": seconds})


@asynccontextmanager
async def sandbox(**options: Any) -> AsyncIterator[Driver]:
    """Run a sandbox on a free port."""
    resolved = Options(**{"port": free_port(), "auto_consent": True, **options})
    async with (
        serving(resolved) as instance,
        httpx.AsyncClient(base_url=resolved.url, trust_env=False, timeout=PATIENCE_SECONDS) as http,
    ):
        yield Driver(instance, http)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def challenge(verifier: str = VERIFIER) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def authorization(**changes: str | None) -> dict[str, str]:
    """The parameters of contract 3.3 with `changes`; a parameter that is None is omitted."""
    parameters: dict[str, str | None] = {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": REDIRECT_URI,
        "scope": " ".join(SCOPES),
        "state": "a-state",
        "code_challenge": challenge(),
        "code_challenge_method": "S256",
        "required_access_level": "team",
    }
    return _without_none(parameters | changes)


def _without_none(fields: dict[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in fields.items() if value is not None}


def callback(response: httpx.Response) -> dict[str, str]:
    """The parameters that a redirect passes to the client."""
    assert response.is_redirect, response.text
    return dict(parse_qsl(urlsplit(response.headers["Location"]).query))


def function(**changes: Any) -> dict[str, Any]:
    """The body of contract 2.4 with `changes`."""
    url = changes.pop("url", "https://t.example.com/v1/webhooks/posthog")
    secret = changes.pop("signing_secret", None)
    secret_headers = changes.pop("secret_headers", None)
    return {
        "type": "destination",
        "name": "Hogsend ingest",
        "template_id": "template-webhook",
        "enabled": True,
        "inputs": {
            "url": {"value": url},
            "method": {"value": "POST"},
            "body": {"value": {"event": "{event}", "person": "{person}"}},
            "headers": {
                "value": {"Content-Type": "application/json", "x-posthog-webhook-secret": "s"}
            },
            "debug": {"value": False},
            **({"signing_secret": {"value": secret}} if secret else {}),
            **({"secret_headers": {"value": secret_headers}} if secret_headers else {}),
        },
        "filters": {"source": "events", "properties": []},
        **changes,
    }


@dataclass
class Received:
    """One request that a receiver got."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    content: bytes
    """The body as bytes."""


@dataclass
class Receiver:
    """An HTTP server that returns the queued responses, then 200."""

    port: int
    responses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers of the next responses."""
    received: list[Received] = field(default_factory=list)
    drop: int = 0
    """Number of connections to close without a response."""
    may_respond: asyncio.Event = field(default_factory=asyncio.Event)
    """While this is cleared, requests are read but get no response."""

    def __post_init__(self) -> None:
        self.may_respond.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/webhooks/posthog"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *fields = head.strip().split("\r\n")
        headers = {
            name.lower(): value for name, value in (field.split(": ", 1) for field in fields)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        method, path, _ = line.split(" ")
        decoded = json.loads(body) if body else None
        self.received.append(Received(method, path, headers, decoded, body))
        await self.may_respond.wait()
        if self.drop:
            self.drop -= 1
        else:
            status, extra = self.responses.pop(0) if self.responses else (200, {})
            lines = [f"HTTP/1.1 {status} x", "Content-Length: 0", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in extra.items()]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            await writer.drain()
        writer.close()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """Run a receiver on a free port."""
    receiver = Receiver(free_port())
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", receiver.port)
    try:
        yield receiver
    finally:
        server.close()
        await server.wait_closed()
