"""Dependencies of analytics in memory: the bus, and PostHog's private API."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import httpx

from hogsend.contract.contacts import Contact
from hogsend.contract.credentials import (
    CREDENTIALS_PROJECT,
    CREDENTIALS_TOKEN,
    Change,
    CredentialChanged,
    ProjectReply,
    TokenReply,
    TokenRequest,
    token_digest,
)
from hogsend.contract.errors import HogsendError, Unavailable
from hogsend.contract.registry import Endpoint, Reply, Request
from hogsend.contract.users import User
from hogsend.transport.connection import Connection

HOST = "https://eu.posthog.com"
ReplyFunction = Callable[[Any], Any]


@dataclass(frozen=True)
class Published:
    """A message that was published."""

    subject: str
    body: bytes
    headers: Mapping[str, str]


class FakeLink(Connection):
    """A connection whose replies a test sets."""

    def __init__(self) -> None:
        super().__init__(User.ANALYTICS, "nats://127.0.0.1:4222")
        self.replies: dict[str, ReplyFunction] = {}
        """Functions that return the reply, by subject; other subjects are unavailable."""
        self.requested: list[str] = []
        self.published: list[Published] = []
        self.publish_error: HogsendError | None = None
        """The error that publishing raises."""
        self.gate: asyncio.Event | None = None
        """If not None, replies arrive when it is set."""

    def reply_with(self, endpoint: Endpoint[Any, Any], reply: ReplyFunction) -> None:
        """Set the function that returns an endpoint's reply."""
        self.replies[endpoint.subject] = reply

    async def request(
        self,
        endpoint: Endpoint[Request, Reply],
        message: Request,
        *,
        deadline: float | None = None,  # noqa: ARG002 - as the connection has it
        headers: dict[str, str] | None = None,  # noqa: ARG002
    ) -> Reply:
        self.requested.append(endpoint.subject)
        if endpoint.subject not in self.replies:
            raise Unavailable(f"the {endpoint.service} service is not running")
        reply: Reply = self.replies[endpoint.subject](message)
        if self.gate is not None:
            await self.gate.wait()
        return reply

    async def publish(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        within: float = 2.0,  # noqa: ARG002 - as the connection has it
    ) -> None:
        if self.publish_error is not None:
            raise self.publish_error
        self.published.append(Published(subject, body, headers))


@dataclass
class FakeCredentials:
    """The credentials service: one credential at one version."""

    link: FakeLink
    version: int = 1
    token: str | None = None
    source: Literal["oauth", "personal_key"] = "oauth"
    project: ProjectReply = field(default_factory=lambda: ProjectReply(1, "absent"))
    scoped_teams: list[int] = field(default_factory=list)
    not_refreshed: str | None = None
    """Reason why the grant has no token at present."""
    instead: list[str] = field(default_factory=list)
    """Tokens to return in place of rejected ones."""

    def __post_init__(self) -> None:
        self.link.reply_with(CREDENTIALS_TOKEN, self._token_reply)
        self.link.reply_with(CREDENTIALS_PROJECT, lambda _request: self.project)

    def _token_reply(self, request: TokenRequest) -> TokenReply:
        refused = request.rejected_sha256
        if refused is not None and self.token is not None and refused == token_digest(self.token):
            self.token = self.instead.pop(0) if self.instead else None
            self.version += 1
        if self.token is None:
            return TokenReply(source="none", version=self.version, not_refreshed=self.not_refreshed)
        return TokenReply(
            source=self.source,
            version=self.version,
            token=self.token,
            scoped_teams=self.scoped_teams,
        )

    def change(self, token: str | None, change: Change = "stored") -> CredentialChanged:
        """Change the credential, and return the event of the change."""
        self.version += 1
        self.token = token
        return CredentialChanged(
            provider="posthog",
            version=self.version,
            change=change,
            kinds=["oauth"] if token else [],
            changed_kinds=["oauth"],
            scopes=[],
            expires_at=None,
            changed_at=datetime.now(UTC),
        )


@dataclass
class FakePersons:
    """Persons by distinct id."""

    by_id: dict[str, dict[str, Any]] = field(default_factory=dict)
    requested: list[str] = field(default_factory=list)

    async def properties(self, distinct_id: str) -> dict[str, Any]:
        self.requested.append(distinct_id)
        await asyncio.sleep(0)
        return self.by_id.get(distinct_id, {})

    async def properties_of_all(
        self,
        distinct_ids: Sequence[str],
        *,
        seconds: float,  # noqa: ARG002 - as the reader has it
    ) -> list[dict[str, Any]]:
        return [await self.properties(distinct_id) for distinct_id in distinct_ids]


@dataclass
class FakeContacts:
    """Contacts by user id."""

    by_id: dict[str, Contact] = field(default_factory=dict)
    filled: list[tuple[str, str]] = field(default_factory=list)
    down: bool = False

    async def get(self, user_id: str) -> Contact:
        if self.down:
            raise Unavailable("the ingest service is not running")
        return self.by_id.get(user_id, Contact())

    async def get_or_empty(self, user_id: str) -> Contact:
        return Contact() if self.down else await self.get(user_id)

    def fill_timezone(self, contact_key: str, timezone: str) -> None:
        self.filled.append((contact_key, timezone))


@dataclass
class FakePostHog:
    """PostHog's private API: persons of one project."""

    persons: dict[str, dict[str, Any]] = field(default_factory=dict)
    project_id: int | None = 4242
    refuses_project: str | None = None
    """Detail of the 403 for the project; None if the project may be read."""
    accepts: set[str] | None = None
    """Bearers that are accepted; None accepts all."""
    body: bytes | None = None
    """Returned instead of a person."""
    status: int = 200
    """Status of responses to reads of persons."""
    retry_after: str | None = None
    """`Retry-After` of a response with another status than 200."""
    refusals: list[tuple[int, str]] = field(default_factory=list)
    """Status and `Retry-After` of the next responses to reads of persons."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Host, path with query, and bearer of every request."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is cleared, no request is answered."""
    delay_seconds: float = 0.0
    """Delay of each response."""
    max_concurrent: int = 0
    """Largest number of concurrent requests."""
    _now: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def http(self) -> httpx.AsyncClient:
        """A client that reaches this PostHog under every host."""
        return httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    @property
    def paths(self) -> list[str]:
        """Path with query of every request."""
        return [path for _, path, _ in self.requests]

    @property
    def discoveries(self) -> int:
        """Number of requests for the project that a bearer belongs to."""
        return self.paths.count("/api/projects/@current/")

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        host = f"{request.url.scheme}://{request.url.netloc.decode()}"
        self.requests.append((host, request.url.raw_path.decode(), bearer))
        self._now += 1
        self.max_concurrent = max(self.max_concurrent, self._now)
        try:
            await self.gate.wait()
            await asyncio.sleep(self.delay_seconds)
        finally:
            self._now -= 1
        if self.accepts is not None and bearer not in self.accepts:
            return httpx.Response(401, json={"detail": "invalid token"})
        if re.fullmatch(r"/api/projects/[^/]+/", request.url.path):
            if self.refuses_project is not None:
                return httpx.Response(403, json={"detail": self.refuses_project})
            return httpx.Response(200, json={"id": self.project_id})
        if self.refusals:
            status, seconds = self.refusals.pop(0)
            return httpx.Response(status, headers={"Retry-After": seconds})
        if self.body is not None or self.status != 200:
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return httpx.Response(self.status, content=self.body or b"{}", headers=headers)
        person = self.persons.get(request.url.params.get("distinct_id", ""))
        results = [] if person is None else [{"properties": person}]
        return httpx.Response(200, content=json.dumps({"results": results}))
