"""A PostHog that only captures: keeps what it took, refuses, stalls or hangs up as it is told."""

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
Judge = Callable[[Batch], "Said | None"]


@dataclass(frozen=True)
class Said:
    """An answer; `status` 0 hangs up before it, `half` in the middle of it."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    half: bool = False
    takes: bool = False
    """Whether the events are kept all the same."""


@dataclass
class CaptureRecorder:
    """Tests look at it and tell it what to say."""

    port: int
    judge: Judge = lambda _batch: None
    batches: list[Batch] = field(default_factory=list)
    """What was kept, a list for each request."""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers of every request."""
    keys: list[str] = field(default_factory=list)
    arrived: int = 0
    """Requests, those included that are not answered yet."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Nothing is answered while it is clear."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def events(self) -> Batch:
        """Everything kept, repeats included."""
        return [event for batch in self.batches for event in batch]

    def of(self, person: str) -> Batch:
        return [event for event in self.events if event["distinct_id"] == person]

    def names(self) -> list[str]:
        return [event["event"] for event in self.events]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if not await self._one(head.decode(), reader, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(
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
        said = self.judge(document["batch"]) or Said(200, takes=True)
        if said.takes:
            self.batches.append(document["batch"])
        if not said.status:
            return False
        lines = [f"HTTP/1.1 {said.status} x", "Content-Length: 15"]
        lines += [f"{name}: {value}" for name, value in said.headers.items()]
        answer = ("\r\n".join(lines) + "\r\n\r\n").encode() + b'{"status":"Ok"}'
        writer.write(answer[: len(answer) // 2] if said.half else answer)
        await writer.drain()
        return not said.half


@asynccontextmanager
async def capture_recorder(port: int | None = None) -> AsyncIterator[CaptureRecorder]:
    """A recorder on a port of its own."""
    recorder = CaptureRecorder(port or free_port())
    recorder.gate.set()
    server = await asyncio.start_server(recorder.serve, "127.0.0.1", recorder.port)
    try:
        yield recorder
    finally:
        recorder.gate.set()
        server.close()
