"""Feature flags of a person (contract 4.6). Without a project key there are none, and no error."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import structlog
from cachetools import LRUCache

from hogsend.contract import subjects
from hogsend.contract.errors import HogsendError
from hogsend.contract.flags import Flags, GetFlags
from hogsend.contract.headers import message_headers
from hogsend.contract.json_text import NOT_JSON, is_too_deep
from hogsend.contract.persons import Capture
from hogsend.posthog.api import PostHogError
from hogsend.posthog.flags import EvaluatedFlag, Evaluation, FlagsApi, FlagsRequest
from hogsend.service.metrics import FAILURES
from hogsend.transport.background import run_in_background
from hogsend.transport.connection import Connection
from services.analytics.project_key import Project, ProjectKey

log = structlog.get_logger(__name__)

CALLED = "$feature_flag_called"
REMEMBERED_REPORTS = 50_000


class FlagReader:
    """Evaluates the flags of the project that the key belongs to."""

    def __init__(self, link: Connection, project_key: ProjectKey, http: httpx.AsyncClient) -> None:
        """Ask with the key of `project_key`; report over `link` which flags were evaluated."""
        self._link = link
        self._project_key = project_key
        self._api = FlagsApi(http)
        self._reported: LRUCache[tuple[str, str, bool | str], None] = LRUCache(REMEMBERED_REPORTS)
        self._paused: tuple[Project, float] | None = None
        """Whose requests PostHog does not want, and until when on the loop's clock."""

    async def evaluate(self, wanted: GetFlags) -> Flags:
        """Give flags and payloads, empty without a project key or an answer; never raises.

        PostHog is not asked before the latest time that a `Retry-After` of it named.
        """
        try:
            project = await self._project_key.project()
            if project is None:
                return Flags()
            found = await self._ask(project, wanted)
        except (HogsendError, PostHogError) as error:
            FAILURES.labels("flags", type(error).__name__).inc()
            log.warning("flags not evaluated", reason=str(error))
            return Flags()
        if found.unreadable:
            FAILURES.labels("flags", "unreadable").inc()
            log.warning("flags in an unknown shape are left out", flags=found.unreadable[:10])
        if found.limited:
            FAILURES.labels("flags", "quota_limited").inc()
            log.warning("PostHog evaluates no flags: the project's quota is used up")
        known = {
            key: flag
            for key, flag in found.flags.items()
            if not flag.failed and (wanted.keys is None or key in wanted.keys)
        }
        if wanted.keys is not None:
            self._report(wanted, known, found)
        return Flags(
            values={key: flag.value for key, flag in known.items()},
            payloads={
                key: _payload(flag)
                for key, flag in known.items()
                if flag.metadata.payload is not None
            },
        )

    async def _ask(self, project: Project, wanted: GetFlags) -> Evaluation:
        now = asyncio.get_running_loop().time
        left = self._paused_until(project) - now()
        if left > 0:
            raise PostHogError(f"PostHog accepts no requests for another {left:.0f} s")
        request = FlagsRequest(
            token=project.key,
            distinct_id=wanted.distinct_id,
            groups=wanted.groups,
            person_properties=wanted.person_properties,
            group_properties=wanted.group_properties,
            geoip_disable=True,
            flag_keys_to_evaluate=msgspec.UNSET if wanted.keys is None else wanted.keys,
        )
        try:
            return await self._api.evaluate(project.host, request)
        except PostHogError as error:
            if error.retry_after:
                # Of requests under way together, the last to be refused may name the least.
                until = max(self._paused_until(project), now() + error.retry_after)
                self._paused = project, until
            raise

    def _paused_until(self, project: Project) -> float:
        of, until = self._paused or (None, 0.0)
        return until if of == project else 0.0

    def _report(self, wanted: GetFlags, known: dict[str, EvaluatedFlag], found: Evaluation) -> None:
        for key, flag in known.items():
            call = wanted.distinct_id, key, flag.value
            if call in self._reported:
                continue
            self._reported[call] = None
            run_in_background(self._capture(_called(wanted, key, flag, found)))

    async def _capture(self, called: Capture) -> None:
        headers = message_headers(
            id=str(called.id), source="analytics", type="capture", time=datetime.now(UTC)
        )
        try:
            await self._link.publish(
                subjects.persons("capture"), msgspec.json.encode(called), headers
            )
        except HogsendError as error:
            # The flag was answered; the report is only statistics.
            FAILURES.labels("flag_called", error.code).inc()
            log.warning("flag evaluation not reported to PostHog", reason=str(error))


def _called(wanted: GetFlags, key: str, flag: EvaluatedFlag, found: Evaluation) -> Capture:
    properties: dict[str, Any] = {
        "$feature_flag": key,
        "$feature_flag_response": flag.value,
        f"$feature/{key}": flag.value,
        "$feature_flag_id": flag.metadata.id,
        "$feature_flag_version": flag.metadata.version,
        "$feature_flag_reason": flag.reason.description if flag.reason else None,
        "$feature_flag_request_id": found.request_id,
        "locally_evaluated": False,
    }
    return Capture(
        id=uuid4(),
        event=CALLED,
        distinct_id=wanted.distinct_id,
        properties={name: value for name, value in properties.items() if value is not None},
        groups=wanted.groups,
        timestamp=datetime.now(UTC),
    )


def _payload(flag: EvaluatedFlag) -> Any:
    # PostHog keeps payloads as JSON in a string.
    payload = flag.metadata.payload
    if not isinstance(payload, str):
        return payload
    try:
        # What asks may read less deep than this Python does.
        return payload if is_too_deep(payload.encode()) else msgspec.json.decode(payload)
    except NOT_JSON:
        return payload
