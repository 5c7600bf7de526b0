"""Reads persons from PostHog: cached, one call at a time for each, and never in anybody's way.

Whatever fails, the answer is empty, and a metric says so (contract 4.1). Only an empty answer of
PostHog's own is kept; a failure is not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import structlog
from cachetools import TTLCache
from nats.aio.msg import Msg
from prometheus_client import Counter

from hogsend.contract import subjects
from hogsend.contract.base import Properties
from hogsend.contract.credentials import CredentialChanged, TokenReply
from hogsend.contract.errors import HogsendError
from hogsend.posthog.api import Persons, PostHogError, Projects, Transport
from hogsend.service.metrics import FAILURES
from hogsend.service.token_cache import TokenCache, token_digest
from hogsend.transport.connection import Connection
from services.analytics.persons.private_host import PrivateHost
from services.analytics.project_key import PROVIDER

log = structlog.get_logger(__name__)

KEPT_SECONDS = 300.0
KEPT_PERSONS = 10_000
DEADLINE_SECONDS = 10.0
MAX_BYTES = 900_000
"""More does not fit into a message of NATS' default size."""
ASK_SECONDS = 1.0
UNAUTHORIZED = 401

READS = Counter("hogsend_person_reads", "Person reads, by where the answer came from", ["outcome"])


class PersonReader:
    """Persons of the project the credential belongs to."""

    def __init__(
        self,
        tokens: TokenCache,
        host: PrivateHost,
        http: httpx.AsyncClient,
        project_id: str | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read with the bearer of `tokens`; without `project_id` PostHog is asked for it, once."""
        self._tokens = tokens
        self._host = host
        self._http = http
        self._project_id = project_id
        self._kept: TTLCache[str, Properties] = TTLCache(KEPT_PERSONS, KEPT_SECONDS, now)
        self._reading: dict[str, asyncio.Task[Properties]] = {}
        self._projects: dict[tuple[str, str], str] = {}
        self._discovering = asyncio.Lock()
        self._changes = 0

    async def follow(self, bus: Connection) -> None:
        """Forget everything at a credential change, from now on."""
        await bus.client.subscribe(subjects.credential_changed(PROVIDER), cb=self._on_change)

    async def properties(self, distinct_id: str) -> Properties:
        """Give a person's properties, empty when they are not known; never raises."""
        kept = self._kept.get(distinct_id)
        if kept is not None:
            READS.labels("kept").inc()
            return kept
        reading = self._reading.get(distinct_id)
        if reading is None:
            reading = asyncio.create_task(self._read(distinct_id))
            self._reading[distinct_id] = reading
            reading.add_done_callback(lambda task: self._done(distinct_id, task))
        # Whoever stops waiting does not take the answer from the others.
        return await asyncio.shield(reading)

    async def say_once_when_off(self) -> None:
        """Log that persons cannot be read, if so, as soon as that is known."""
        while True:
            try:
                bearer = await self._tokens.token()
            except HogsendError as error:
                log.debug("not known yet whether persons can be read", reason=str(error))
                await asyncio.sleep(ASK_SECONDS)
                continue
            if bearer.token is None:
                log.info(
                    "person reads are off: contact properties and DEFAULT_TIMEZONE stand in",
                    provider=PROVIDER,
                    fix="run `hogsend connect posthog`, or set POSTHOG_PERSONAL_API_KEY",
                )
            return

    def _done(self, distinct_id: str, task: asyncio.Task[Properties]) -> None:
        if self._reading.get(distinct_id) is task:
            del self._reading[distinct_id]

    async def _read(self, distinct_id: str) -> Properties:
        changes = self._changes
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                bearer = await self._tokens.token()
                if bearer.token is None:
                    READS.labels("off").inc()
                    return {}
                found = await self._ask_with_a_good_token(distinct_id, bearer)
        except (HogsendError, PostHogError, TimeoutError) as error:
            _failed(error)
            return {}
        # The bearer may have changed before this heard of it.
        if changes == self._changes and bearer.version == self._tokens.version:
            self._kept[distinct_id] = found
        READS.labels("read").inc()
        return found

    async def _ask_with_a_good_token(self, distinct_id: str, bearer: TokenReply) -> Properties:
        try:
            return await self._ask(distinct_id, bearer)
        except PostHogError as error:
            if error.status != UNAUTHORIZED or bearer.token is None:
                raise
            fresh = await self._tokens.ask(token_digest(bearer.token))
            if fresh.token in {None, bearer.token}:
                raise
            return await self._ask(distinct_id, fresh)

    async def _ask(self, distinct_id: str, bearer: TokenReply) -> Properties:
        host = await self._host.find()
        transport = Transport(self._http, host, bearer.token or "")
        project_id = self._project_id or await self._discover(transport, (host, bearer.source))
        found = await Persons(transport, project_id).properties(distinct_id)
        if len(msgspec.json.encode(found)) > MAX_BYTES:
            raise PostHogError(f"the person has more than {MAX_BYTES} bytes of properties")
        return found

    async def _discover(self, transport: Transport, key: tuple[str, str]) -> str:
        # By host and kind of credential, not by token: a refreshed one belongs to the same project.
        async with self._discovering:
            if key not in self._projects:
                project = await Projects(transport).get(None, seconds=DEADLINE_SECONDS)
                if project.id is None:
                    raise PostHogError("PostHog does not say which project this is")
                self._projects[key] = project.id
            return self._projects[key]

    async def _on_change(self, message: Msg) -> None:
        self._changes += 1
        self._kept.clear()
        self._reading.clear()
        if _is_refresh(message):
            return
        # Somebody may have connected another project.
        self._projects.clear()


def _is_refresh(message: Msg) -> bool:
    try:
        return msgspec.json.decode(message.data, type=CredentialChanged).change == "refreshed"
    except msgspec.MsgspecError as error:
        FAILURES.labels("credential_event", type(error).__name__).inc()
        return False


def _failed(error: Any) -> None:
    status = error.status if isinstance(error, PostHogError) else None
    kind = f"http_{status}" if status else type(error).__name__
    READS.labels("failed").inc()
    FAILURES.labels("person_read", kind).inc()
    log.warning("person not read, contact properties stand in", reason=str(error) or kind)
