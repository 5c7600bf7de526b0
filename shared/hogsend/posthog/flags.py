"""PostHog's flag evaluation: `POST {ingestion host}/flags/?v=2` (contract 4.6).

PostHog's side is `rust/feature-flags/src/api/`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import msgspec

from hogsend.contract.base import Properties
from hogsend.posthog.api.transport import AnswerTooLarge, PostHogError, read

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
    """Without it PostHog would locate everybody at this server's address."""
    flag_keys_to_evaluate: list[str] | None = None

    def __repr__(self) -> str:
        """Name nobody and no key."""
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
    """PostHog could not evaluate it, which is no answer."""
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
    """Evaluates flags with the public project key; nothing here retries or follows a redirect."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """Ask with `http` (see `hogsend.posthog.api.http_client`)."""
        self._http = http

    async def evaluate(self, host: str, request: FlagsRequest) -> Evaluation:
        """Evaluate flags for one person.

        Raises:
            PostHogError: PostHog refused, could not be asked, or did not answer with flags.
        """
        body, headers = msgspec.json.encode(request), {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(EVALUATION_SECONDS),
                self._http.stream(
                    "POST", f"{host}/flags/?v=2", content=body, headers=headers
                ) as answer,
            ):
                content, status = await read(answer, MAX_ANSWER_BYTES), answer.status_code
        except TimeoutError:
            raise PostHogError(f"PostHog did not answer within {EVALUATION_SECONDS:g} s") from None
        except AnswerTooLarge:
            raise PostHogError("PostHog's answer is too large") from None
        # Causes are dropped on purpose: what the libraries below say can quote the request.
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise PostHogError(f"PostHog cannot be reached ({type(error).__name__})") from None
        if not httpx.codes.is_success(status):
            raise PostHogError(f"PostHog answered {status}", status)
        try:
            return msgspec.json.decode(content, type=Evaluation)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise PostHogError("PostHog did not answer with flags") from None
