"""A fake of PostHog's capture API: stores events, and fails, stalls or hangs up on request."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.ports import free_port

Batch = list[dict[str, Any]]
Responder = Callable[[Batch], "Reply | None"]


@dataclass(frozen=True)
class Reply:
    """A response to one request."""

    status: int
    """HTTP status; 0 closes the connection without a response."""
    headers: dict[str, str] = field(default_factory=dict)
    cut_off: bool = False
    """Whether the connection is closed in the middle of the response."""
    stores: bool = False
    """Whether the events are stored although the request fails."""


@dataclass
class CaptureRecorder:
    """The state of the fake, which tests read and change."""

    port: int
    respond: Responder = lambda _batch: None
    """Returns the reply to a batch; None stores it and replies with 200."""
    batches: list[Batch] = field(default_factory=list)
    """The stored events, one list for each request."""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers of every request that was answered."""
    keys: list[str] = field(default_factory=list)
    """Project API key of every request."""
    arrived: int = 0
    """Number of requests, including those that wait for the gate."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Requests wait while it is clear."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def events(self) -> Batch:
        """All stored events, including duplicates."""
        return [event for batch in self.batches for event in batch]

    def of(self, person: str) -> Batch:
        return [event for event in self.events if event["distinct_id"] == person]

    def names(self) -> list[str]:
        return [event["event"] for event in self.events]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if not await self._handle(head.decode(), reader, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _handle(
        self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        line, *fields = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in fields)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.arrived += 1
        await self.gate.wait()
        self.requests.append((line.split(" ")[1], headers))
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        document = json.loads(body)
        self.keys.append(document["api_key"])
        reply = self.respond(document["batch"]) or Reply(200, stores=True)
        if reply.stores:
            self.batches.append(document["batch"])
        if not reply.status:
            return False
        lines = [f"HTTP/1.1 {reply.status} x", "Content-Length: 15"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        response = ("\r\n".join(lines) + "\r\n\r\n").encode() + b'{"status":"Ok"}'
        writer.write(response[: len(response) // 2] if reply.cut_off else response)
        await writer.drain()
        return not reply.cut_off


@asynccontextmanager
async def capture_recorder(port: int | None = None) -> AsyncIterator[CaptureRecorder]:
    """Run a fake on `port`, or on a free one."""
    recorder = CaptureRecorder(port or free_port())
    recorder.gate.set()
    server = await asyncio.start_server(recorder.serve, "127.0.0.1", recorder.port)
    try:
        yield recorder
    finally:
        recorder.gate.set()
        server.close()
