"""PostHog's flag evaluation: `POST {ingestion host}/flags/?v=2` (contract 4.6).

PostHog's side is `rust/feature-flags/src/api/`.
"""

from __future__ import annotations

from typing import Any

import httpx
import msgspec

from hogsend.contract.base import Properties
from hogsend.posthog.errors import PostHogError
from hogsend.posthog.exchange import exchange

MAX_ANSWER_BYTES = 4 * 1024 * 1024
EVALUATION_SECONDS = 10.0


class FlagsRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of the request."""

    token: str
    distinct_id: str
    groups: dict[str, str]
    person_properties: Properties
    group_properties: dict[str, Properties]
    geoip_disable: bool
    """Otherwise PostHog would locate every person at this server's address."""
    flag_keys_to_evaluate: list[str] | None = None

    def __repr__(self) -> str:
        """Hide the person and the key."""
        return "FlagsRequest(...)"


class Metadata(msgspec.Struct, frozen=True):
    """Which flag it is."""

    id: int | None = None
    version: int | None = None
    payload: Any = None


class Reason(msgspec.Struct, frozen=True):
    """Why a flag has its value."""

    description: str | None = None


class EvaluatedFlag(msgspec.Struct, frozen=True):
    """One flag."""

    enabled: bool = False
    variant: str | None = None
    failed: bool = False
    """PostHog could not evaluate it; its value means nothing."""
    reason: Reason | None = None
    metadata: Metadata = Metadata()

    @property
    def value(self) -> bool | str:
        """The variant, or whether it is on."""
        return self.variant if self.enabled and self.variant else self.enabled


class Evaluation(msgspec.Struct, frozen=True, rename="camel"):
    """The answer."""

    flags: dict[str, EvaluatedFlag] = {}
    request_id: str | None = None


class FlagsApi:
    """Evaluates flags with the public project key."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def evaluate(self, host: str, request: FlagsRequest) -> Evaluation:
        """Evaluate flags for one person.

        Raises:
            PostHogError: PostHog refused, could not be reached, or did not answer with flags.
        """
        answer = await exchange(
            self._http,
            "POST",
            f"{host}/flags/?v=2",
            headers={"Content-Type": "application/json"},
            content=msgspec.json.encode(request),
            seconds=EVALUATION_SECONDS,
            max_bytes=MAX_ANSWER_BYTES,
        )
        if not httpx.codes.is_success(answer.status):
            raise PostHogError(f"PostHog answered {answer.status}", answer.status)
        try:
            return msgspec.json.decode(answer.content, type=Evaluation)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise PostHogError("PostHog did not answer with flags") from None
