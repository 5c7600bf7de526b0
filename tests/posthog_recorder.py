"""A small PostHog that records every request: a project, its destinations, persons.

It answers as the contract says PostHog does (2.2) and nothing more; `answers` makes it refuse.
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
    """A request as it came."""

    method: str
    path: str
    """With its query."""
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    """What is answered to requests that match, instead of what PostHog would say."""

    method: str
    path: str
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Recorder:
    """The recorder's state; tests set it up and look at it."""

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
    """Bearers that are let in; None lets every one in."""
    requests: list[Recorded] = field(default_factory=list)
    before: Callable[[Recorded], Awaitable[None]] | None = None
    """Awaited before each request is answered."""

    def lines(self) -> list[str]:
        """Method and path of every request."""
        return [f"{request.method} {request.path}" for request in self.requests]

    def bodies(self, method: str) -> list[Any]:
        """Bodies sent with one method."""
        return [request.body for request in self.requests if request.method == method]

    def add(self, id: str, *, name: str = "Hogsend", **values: Any) -> dict[str, Any]:
        """Add a destination."""
        function = {"id": id, "name": name, "type": "destination", "inputs_schema": SCHEMA}
        self.functions[id] = {**function, "enabled": True, "filters": {}, "inputs": {}, **values}
        return self.functions[id]

    def refuse(self, method: str, path: str, status: int, body: Any = None, **headers: str) -> None:
        """Answer requests whose method and path match these patterns like this."""
        self.answers.append(Answer(method, path, status, body, headers))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
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
        status, body, more = await self._answer(request, scope["path"], parse_qs(query))
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = [(b"content-type", b"application/json")]
        head += [(name.encode(), value.encode()) for name, value in more.items()]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": text})

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
            known = [self.persons[id] for id in query.get("distinct_id", []) if id in self.persons]
            return {"results": [{"properties": one} for one in known]}
        if path == "/flags/":
            wanted = request.body.get("flag_keys_to_evaluate")
            found = {key: one for key, one in self.flags.items() if not wanted or key in wanted}
            return {"flags": found, "requestId": "r-1"}
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
        shown = list(self.functions.values())[offset : offset + self.page_size]
        following = offset + self.page_size
        # PostHog names itself by the host it knows, which need not be the one we use.
        more = f"https://elsewhere.example{path}?type=destination&limit=100&offset={following}"
        return {
            "next": more if following < len(self.functions) else None,
            "results": [
                {key: value for key, value in function.items() if key != "inputs"}
                for function in shown
            ],
        }


@asynccontextmanager
async def serving(app: Any, port: int | None = None) -> AsyncIterator[str]:
    """Serve an ASGI app on a port of this machine, a free one when none is named."""
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
    """A recorder that is being served."""
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
