"""PostHog's flag evaluation: `POST {ingestion host}/flags/?v=2` (contract 4.6).

PostHog's side is `rust/feature-flags/src/api/`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import httpx
import msgspec

from hogsend.contract.base import Properties
from hogsend.contract.json_text import NOT_JSON, is_too_deep, repaired_json
from hogsend.posthog.errors import PostHogError
from hogsend.posthog.exchange import exchange
from hogsend.posthog.retry_after import retry_after_seconds

MAX_ANSWER_BYTES = 4 * 1024 * 1024
EVALUATION_SECONDS = 10.0

_Shape = TypeVar("_Shape")


class FlagsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of the request."""

    token: str
    distinct_id: str
    groups: dict[str, str]
    person_properties: Properties
    group_properties: dict[str, Properties]
    geoip_disable: bool
    """Otherwise PostHog would locate every person at this server's address."""
    flag_keys_to_evaluate: list[str] | msgspec.UnsetType = msgspec.UNSET
    evaluation_runtime: Literal["server"] = "server"
    """Otherwise PostHog, which knows no runtime of our client, leaves out every flag that is for
    servers alone, also where it is asked for by its key."""

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

    enabled: bool
    variant: str | None = None
    failed: bool | None = False
    """PostHog could not evaluate it; its value means nothing."""
    reason: Reason | None = None
    metadata: Metadata = Metadata()

    @property
    def value(self) -> bool | str:
        """The variant, or whether it is on."""
        return self.variant if self.enabled and self.variant else self.enabled


class Evaluation(msgspec.Struct, frozen=True):
    """The answer, without the parts that cannot be read."""

    flags: dict[str, EvaluatedFlag] = {}
    request_id: str | None = None
    unreadable: list[str] = []
    """Names of flags in a shape that is not known."""
    limited: bool = False
    """PostHog evaluates no more flags for this project's quota."""


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
            raise PostHogError(
                f"PostHog answered {answer.status}",
                answer.status,
                retry_after=retry_after_seconds(answer.retry_after, datetime.now(UTC)),
            )
        return read_evaluation(answer.content)


_ABSENT = msgspec.Raw(b"null")
_FLAGS_QUOTA = "feature_flags"


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    """Version 2 of the answer, and what older PostHogs answer with instead of `flags`."""

    flags: msgspec.Raw = _ABSENT
    feature_flags: msgspec.Raw = _ABSENT
    feature_flag_payloads: msgspec.Raw = _ABSENT
    request_id: msgspec.Raw = _ABSENT
    quota_limited: msgspec.Raw = _ABSENT


class _Flag(msgspec.Struct, frozen=True):
    """A flag whose value can be read, whatever else is said about it."""

    enabled: bool
    variant: str | None = None
    failed: bool | None = None
    reason: msgspec.Raw = _ABSENT
    metadata: msgspec.Raw = _ABSENT


def read_evaluation(content: bytes) -> Evaluation:
    """Read an answer; one odd member costs that member alone.

    Raises:
        PostHogError: it has no flags at all.
    """
    answer = _read(repaired_json(content), _Answer)
    if answer is None:
        raise PostHogError("PostHog did not answer with flags")
    limited = _FLAGS_QUOTA in (_read(answer.quota_limited, list[Any]) or [])
    found = _flags(answer)
    if found is None and not limited:
        raise PostHogError("PostHog did not answer with flags")
    found = found or {}
    return Evaluation(
        flags={name: flag for name, flag in found.items() if flag is not None},
        request_id=_read(answer.request_id, str),
        unreadable=[name for name, flag in found.items() if flag is None],
        limited=limited,
    )


def _flags(answer: _Answer) -> dict[str, EvaluatedFlag | None] | None:
    """Read each flag by itself: None for one that cannot be read, and for an answer without any."""
    flags = _read(answer.flags, dict[str, msgspec.Raw])
    if flags is not None:
        return {name: _flag(content) for name, content in flags.items()}
    values = _read(answer.feature_flags, dict[str, msgspec.Raw])
    if values is None:
        return None
    payloads = _read(answer.feature_flag_payloads, dict[str, msgspec.Raw]) or {}
    return {
        name: _older_flag(content, payloads.get(name, _ABSENT)) for name, content in values.items()
    }


def _flag(content: msgspec.Raw) -> EvaluatedFlag | None:
    flag = _read(content, _Flag)
    if flag is None:
        return None
    return EvaluatedFlag(
        flag.enabled,
        flag.variant,
        flag.failed,
        _read(flag.reason, Reason),
        _metadata(flag.metadata),
    )


def _metadata(content: msgspec.Raw) -> Metadata:
    members = _read(content, dict[str, msgspec.Raw]) or {}
    return Metadata(
        id=_read(members.get("id", _ABSENT), int),
        version=_read(members.get("version", _ABSENT), int),
        payload=_payload(members.get("payload", _ABSENT)),
    )


def _older_flag(content: msgspec.Raw, payload: msgspec.Raw) -> EvaluatedFlag | None:
    value: bool | str | None = _read(content, bool)
    if value is None:
        value = _read(content, str)
    if value is None:
        return None
    return EvaluatedFlag(
        enabled=bool(value),
        variant=value if isinstance(value, str) else None,
        metadata=Metadata(payload=_payload(payload)),
    )


def _payload(content: msgspec.Raw) -> Any:
    return None if is_too_deep(bytes(content)) else _read(content, Any)


def _read(content: msgspec.Raw | bytes, shape: type[_Shape]) -> _Shape | None:
    """Read one member; None when it has another shape."""
    try:
        return msgspec.json.decode(content, type=shape)
    except NOT_JSON:
        return None
