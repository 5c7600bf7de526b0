"""Fetches, validates and caches client metadata documents (posthog/api/oauth/cimd.py)."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import structlog

from hogsend.contract.json_text import NOT_JSON
from hogsend.posthog.client_document import CLIENT_ID, client_document
from hogsend.urls import is_loopback
from sandbox.clock import Clock
from sandbox.oauth.redirects import may_be_registered

log = structlog.get_logger(__name__)

MAX_BYTES = 5 * 1024
FETCH_SECONDS = 5.0
CACHE_SECONDS = 3600
CACHE_BOUNDS = (300, 86_400)
NEW_CLIENTS = ((60.0, 5), (3600.0, 10))
"""Rate limits of new clients for one network address, as (seconds, clients)."""

SECRET_METHODS = frozenset({"client_secret_post", "client_secret_basic", "client_secret_jwt"})


class Client(msgspec.Struct, frozen=True):
    """A client as its document describes it."""

    client_id: str
    name: str
    redirect_uris: tuple[str, ...]

    @property
    def default_redirect_uri(self) -> str | None:
        """The redirect URI of a request without one: the registered one, if it is the only one."""
        return self.redirect_uris[0] if len(self.redirect_uris) == 1 else None


class InvalidDocument(Exception):
    """The URL or its document is not acceptable, or the document cannot be fetched."""


class TooManyClients(Exception):
    """There are too many new clients of one address. The sandbox counts all as one address."""


def check_url(url: str, *, allow_http: bool) -> None:
    """Validate a `client_id` before it is fetched.

    Raises:
        InvalidDocument: it is not an https URL with host and path only, or is on loopback.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidDocument("the client_id is not a URL") from error
    local = is_loopback(url)
    if parts.scheme != "https" and not (allow_http and local and parts.scheme == "http"):
        raise InvalidDocument("the client_id must use https")
    if local and not allow_http:
        raise InvalidDocument("the client_id is on a private address")
    if parts.path in ("", "/"):
        raise InvalidDocument("the client_id must have a path")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise InvalidDocument("the client_id must have no query, fragment or userinfo")


def read_document(url: str, body: bytes) -> Client:
    """Validate a document and return its client.

    Raises:
        InvalidDocument: the document is too large, not JSON, or violates a rule.
    """
    if len(body) > MAX_BYTES:
        raise InvalidDocument(f"the document has more than {MAX_BYTES} bytes")
    try:
        document: Any = msgspec.json.decode(body)
    except NOT_JSON as error:
        raise InvalidDocument("the document is not JSON") from error
    if not isinstance(document, dict):
        raise InvalidDocument("the document is not a JSON object")
    if document.get("client_id") != url:
        raise InvalidDocument("the document's client_id is not its URL")
    uris: Any = document.get("redirect_uris")
    if not isinstance(uris, list) or not uris:
        raise InvalidDocument("the document has no redirect_uris")
    for uri in uris:
        if not isinstance(uri, str) or not uri or re.search(r"\s", uri):
            raise InvalidDocument("a redirect_uri is empty or has white space")
        if not may_be_registered(uri):
            raise InvalidDocument("a redirect_uri uses http but is not on loopback")
    if document.get("token_endpoint_auth_method", "none") in SECRET_METHODS:
        raise InvalidDocument("the client wants to authenticate with a secret")
    name = document.get("client_name")
    return Client(url, name if isinstance(name, str) and name else "CIMD Client", tuple(uris))


def cache_seconds(cache_control: str) -> int:
    """Seconds to cache a document: its `max-age`, limited to between five minutes and a day."""
    for directive in cache_control.lower().split(","):
        name, _, value = directive.strip().partition("=")
        if name == "max-age" and value.isdecimal():
            return max(CACHE_BOUNDS[0], min(int(value), CACHE_BOUNDS[1]))
    return CACHE_SECONDS


class Documents:
    """A cache of client documents."""

    def __init__(self, clock: Clock, *, allow_http: bool, offline: bool) -> None:
        self._clock = clock
        self._allow_http = allow_http
        self._offline = offline
        self._cache: dict[str, tuple[float, Client]] = {}
        self._new: list[float] = []

    async def client(self, client_id: str) -> Client:
        """Return the client whose document is at `client_id`.

        Raises:
            InvalidDocument: the document cannot be fetched, or is not acceptable.
            TooManyClients: the client exceeds a limit of new clients.
        """
        check_url(client_id, allow_http=self._allow_http)
        if client_id not in self._cache:
            self._count_new()
        expires, client = self._cache.get(client_id, (0.0, None))
        if client is not None and expires > self._clock.now():
            return client
        body, seconds = await self._body(client_id)
        client = read_document(client_id, body)
        self._cache[client_id] = (self._clock.now() + seconds, client)
        return client

    def cached(self, client_id: str) -> Client | None:
        """Return a client that requested authorization before; None for any other.

        PostHog stores clients permanently. For a restarted sandbox, Hogsend's client must therefore
        exist although its tokens do not.
        """
        _, client = self._cache.get(client_id, (0.0, None))
        if client is None and self._offline and client_id == CLIENT_ID:
            return read_document(client_id, msgspec.json.encode(client_document()))
        return client

    def _count_new(self) -> None:
        now = self._clock.now()
        for seconds, limit in NEW_CLIENTS:
            if sum(moment > now - seconds for moment in self._new) >= limit:
                raise TooManyClients
        self._new.append(now)

    async def _body(self, url: str) -> tuple[bytes, int]:
        if self._offline and url == CLIENT_ID:
            log.info("using the client document this version of Hogsend publishes", url=url)
            return msgspec.json.encode(client_document()), CACHE_SECONDS
        if url.startswith("http:"):
            log.warning("client document over http: PostHog would refuse it", url=url)
        try:
            return await _fetch(url)
        except httpx.HTTPError as error:
            raise InvalidDocument(f"the document cannot be fetched ({error!r})") from error


async def _fetch(url: str) -> tuple[bytes, int]:
    headers = {"Accept": "application/json", "User-Agent": "PostHog-CIMD/1.0"}
    async with (
        httpx.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False, trust_env=False) as http,
        http.stream("GET", url, headers=headers) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise InvalidDocument(f"the document was answered with {response.status_code}")
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_BYTES:
                break
        return body, cache_seconds(response.headers.get("Cache-Control", ""))
