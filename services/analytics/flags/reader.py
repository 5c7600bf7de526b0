"""Evaluates a person's feature flags (contract 4.6). Without a project key the result is empty."""

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
MAX_REPORTS = 50_000


class FlagReader:
    """Evaluates the flags of the project that the project key belongs to."""

    def __init__(self, link: Connection, project_key: ProjectKey, http: httpx.AsyncClient) -> None:
        """Evaluate with the key of `project_key`; publish `$feature_flag_called` over `link`."""
        self._link = link
        self._project_key = project_key
        self._api = FlagsApi(http)
        self._reported: LRUCache[tuple[str, str, bool | str], None] = LRUCache(MAX_REPORTS)
        self._paused: tuple[Project, float] | None = None
        """The project that PostHog limits, and until when, in seconds on the loop's clock."""

    async def evaluate(self, query: GetFlags) -> Flags:
        """Return flags and payloads; empty without a project key or a response. Never raises.

        After a response with `Retry-After`, PostHog is not called until that time is over.
        """
        try:
            project = await self._project_key.project()
            if project is None:
                return Flags()
            evaluation = await self._evaluate(project, query)
        except (HogsendError, PostHogError) as error:
            FAILURES.labels("flags", type(error).__name__).inc()
            log.warning("flags not evaluated", reason=str(error))
            return Flags()
        if evaluation.unreadable:
            FAILURES.labels("flags", "unreadable").inc()
            log.warning("flags in an unknown shape are omitted", flags=evaluation.unreadable[:10])
        if evaluation.limited:
            FAILURES.labels("flags", "quota_limited").inc()
            log.warning("PostHog evaluates no flags: the project's quota is used up")
        flags = {
            key: flag
            for key, flag in evaluation.flags.items()
            if not flag.failed and (query.keys is None or key in query.keys)
        }
        if query.keys is not None:
            self._report_calls(query, flags, evaluation)
        return Flags(
            values={key: flag.value for key, flag in flags.items()},
            payloads={
                key: _payload(flag)
                for key, flag in flags.items()
                if flag.metadata.payload is not None
            },
        )

    async def _evaluate(self, project: Project, query: GetFlags) -> Evaluation:
        now = asyncio.get_running_loop().time
        remaining = self._paused_until(project) - now()
        if remaining > 0:
            raise PostHogError(f"PostHog accepts no requests for another {remaining:.0f} s")
        request = FlagsRequest(
            token=project.key,
            distinct_id=query.distinct_id,
            groups=query.groups,
            person_properties=query.person_properties,
            group_properties=query.group_properties,
            geoip_disable=True,
            flag_keys_to_evaluate=msgspec.UNSET if query.keys is None else query.keys,
        )
        try:
            return await self._api.evaluate(project.host, request)
        except PostHogError as error:
            if error.retry_after:
                # Concurrent requests may each be refused; a later refusal may name a shorter delay.
                until = max(self._paused_until(project), now() + error.retry_after)
                self._paused = project, until
            raise

    def _paused_until(self, project: Project) -> float:
        paused_project, until = self._paused or (None, 0.0)
        return until if paused_project == project else 0.0

    def _report_calls(
        self, query: GetFlags, flags: dict[str, EvaluatedFlag], evaluation: Evaluation
    ) -> None:
        """Capture `$feature_flag_called` once for each person, flag and value."""
        for key, flag in flags.items():
            call = query.distinct_id, key, flag.value
            if call in self._reported:
                continue
            self._reported[call] = None
            run_in_background(self._capture(_call_event(query, key, flag, evaluation)))

    async def _capture(self, event: Capture) -> None:
        headers = message_headers(
            id=str(event.id), source="analytics", type="capture", time=datetime.now(UTC)
        )
        try:
            await self._link.publish(
                subjects.persons("capture"), msgspec.json.encode(event), headers
            )
        except HogsendError as error:
            # The caller has its flags; the event is only for PostHog's statistics.
            FAILURES.labels("flag_called", error.code).inc()
            log.warning("flag evaluation not reported to PostHog", reason=str(error))


def _call_event(query: GetFlags, key: str, flag: EvaluatedFlag, evaluation: Evaluation) -> Capture:
    properties: dict[str, Any] = {
        "$feature_flag": key,
        "$feature_flag_response": flag.value,
        f"$feature/{key}": flag.value,
        "$feature_flag_id": flag.metadata.id,
        "$feature_flag_version": flag.metadata.version,
        "$feature_flag_reason": flag.reason.description if flag.reason else None,
        "$feature_flag_request_id": evaluation.request_id,
        "locally_evaluated": False,
    }
    return Capture(
        id=uuid4(),
        event=CALLED,
        distinct_id=query.distinct_id,
        properties={name: value for name, value in properties.items() if value is not None},
        groups=query.groups,
        timestamp=datetime.now(UTC),
    )


def _payload(flag: EvaluatedFlag) -> Any:
    # PostHog returns payloads as JSON in a string.
    payload = flag.metadata.payload
    if not isinstance(payload, str):
        return payload
    try:
        # A deeply nested payload stays a string: the caller's JSON parser may have a lower limit.
        return payload if is_too_deep(payload.encode()) else msgspec.json.decode(payload)
    except NOT_JSON:
        return payload
