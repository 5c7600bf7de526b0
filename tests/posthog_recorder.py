"""A small fake of PostHog with a project, destinations and persons, which records every request.

It replies as the contract describes PostHog (2.2); `answers` replaces replies, for example with
errors.
"""

from __future__ import annotations

import asyncio
import copy
import gzip
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from granian.constants import Interfaces
from granian.server.embed import Server

from tests.ports import free_port
from tests.waiting import eventually

SCHEMA = [{"key": key} for key in ("url", "method", "body", "headers", "debug")]


@dataclass(frozen=True)
class Recorded:
    """One request."""

    method: str
    path: str
    """Path and query string."""
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    """The reply to requests whose method and path match these patterns."""

    method: str
    path: str
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Recorder:
    """The state of the fake, which tests read and change."""

    url: str = ""
    project: dict[str, Any] = field(
        default_factory=lambda: {"id": 4242, "api_token": "phc_grabbed"}
    )
    functions: dict[str, dict[str, Any]] = field(default_factory=dict)
    persons: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Properties by distinct id."""
    flags: dict[str, Any] = field(default_factory=dict)
    page_size: int = 100
    answers: list[Answer] = field(default_factory=list)
    accepts: set[str] | None = None
    """The accepted bearer tokens; None accepts all."""
    requests: list[Recorded] = field(default_factory=list)
    before: Callable[[Recorded], Awaitable[None]] | None = None
    """Awaited before each reply."""

    def lines(self) -> list[str]:
        """Return the method and path of every request."""
        return [f"{request.method} {request.path}" for request in self.requests]

    def bodies(self, method: str) -> list[Any]:
        """Return the bodies of all requests with one method."""
        return [request.body for request in self.requests if request.method == method]

    def add(self, id: str, *, name: str = "Hogsend", **values: Any) -> dict[str, Any]:
        """Add a destination and return it."""
        function = {"id": id, "name": name, "type": "destination", "inputs_schema": SCHEMA}
        self.functions[id] = {**function, "enabled": True, "filters": {}, "inputs": {}, **values}
        return self.functions[id]

    def refuse(self, method: str, path: str, status: int, body: Any = None, **headers: str) -> None:
        """Reply like this to requests whose method and path match these patterns."""
        self.answers.append(Answer(method, path, status, body, headers))

    def hang(self, part: str = "") -> None:
        """Never reply to requests whose path contains `part`; every path contains the default."""

        async def wait(request: Recorded) -> None:
            if part in request.path:
                await asyncio.Event().wait()

        self.before = wait

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http":
            return
        content = b""
        while True:
            message = await receive()
            content += message.get("body", b"")
            if not message.get("more_body"):
                break
        query = scope["query_string"].decode()
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if headers.get("content-encoding") == "gzip":
            content = gzip.decompress(content)
        request = Recorded(
            scope["method"],
            scope["path"] + (f"?{query}" if query else ""),
            headers,
            json.loads(content) if content else None,
        )
        self.requests.append(request)
        if self.before is not None:
            await self.before(request)
        status, body, extra = await self._answer(request, scope["path"], parse_qs(query))
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = [(b"content-type", b"application/json")]
        fields += [(name.encode(), value.encode()) for name, value in extra.items()]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": encoded})

    async def _answer(
        self, request: Recorded, path: str, query: dict[str, list[str]]
    ) -> tuple[int, Any, dict[str, str]]:
        for answer in self.answers:
            if re.fullmatch(answer.method, request.method) and re.search(answer.path, request.path):
                return answer.status, answer.body, answer.headers
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.accepts is not None and bearer not in self.accepts:
            return 401, {"detail": "Invalid access token."}, {}
        if match := re.fullmatch(r"/api/projects/[^/]+/hog_functions/([^/]*)/?", path):
            return await self._destinations(request, path, match[1], query)
        return 200, self._read(request, path, query), {}

    def _read(self, request: Recorded, path: str, query: dict[str, list[str]]) -> Any:
        if re.fullmatch(r"/api/projects/[^/]+/", path):
            return self.project
        if re.fullmatch(r"/api/projects/[^/]+/persons/", path):
            ids = [id for id in query.get("distinct_id", []) if id in self.persons]
            return {"results": [{"properties": self.persons[id]} for id in ids]}
        if path == "/flags/":
            keys = request.body.get("flag_keys_to_evaluate")
            flags = {key: flag for key, flag in self.flags.items() if not keys or key in keys}
            return {"flags": flags, "requestId": "r-1"}
        return {"results": []}

    async def _destinations(
        self, request: Recorded, path: str, id: str, query: dict[str, list[str]]
    ) -> tuple[int, Any, dict[str, str]]:
        if not id and request.method == "POST":
            return self._create(request.body)
        if not id:
            return 200, self._page(path, int(query.get("offset", ["0"])[0])), {}
        if id not in self.functions:
            return 404, {"detail": "Not found."}, {}
        if request.method == "PATCH":
            self.functions[id].update(copy.deepcopy(request.body))
        return 200, self.functions[id], {}

    def _create(self, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        id = f"fn-{len(self.functions) + 1}"
        created = self.add(id, **copy.deepcopy(body))
        return 201, created, {}

    def _page(self, path: str, offset: int) -> dict[str, Any]:
        page = list(self.functions.values())[offset : offset + self.page_size]
        next_offset = offset + self.page_size
        # PostHog's links contain its configured host, which may differ from the host we call.
        next = f"https://elsewhere.example{path}?type=destination&limit=100&offset={next_offset}"
        return {
            "next": next if next_offset < len(self.functions) else None,
            "results": [
                {key: value for key, value in function.items() if key != "inputs"}
                for function in page
            ],
        }


@asynccontextmanager
async def serving(app: Any, port: int | None = None) -> AsyncIterator[str]:
    """Serve an ASGI app on `port` or a free port, and yield its URL."""
    port = port or free_port()
    server = Server(
        app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False
    )
    task = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: _listens(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        await task


@asynccontextmanager
async def posthog_recorder() -> AsyncIterator[Recorder]:
    """Run the fake on a free port."""
    recorder = Recorder()
    async with serving(recorder) as url:
        recorder.url = url
        yield recorder


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
