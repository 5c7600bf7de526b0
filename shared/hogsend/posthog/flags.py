"""PostHog's flag evaluation API: `POST {ingestion host}/flags/?v=2` (contract 4.6).

PostHog implements it in `rust/feature-flags/src/api/`.
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

MAX_RESPONSE_BYTES = 4 * 1024 * 1024
EVALUATION_SECONDS = 10.0

_Shape = TypeVar("_Shape")


class FlagsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of an evaluation request."""

    token: str
    distinct_id: str
    groups: dict[str, str]
    person_properties: Properties
    group_properties: dict[str, Properties]
    geoip_disable: bool
    """True, or PostHog would take the location of this server for the person's."""
    flag_keys_to_evaluate: list[str] | msgspec.UnsetType = msgspec.UNSET
    evaluation_runtime: Literal["server"] = "server"
    """PostHog cannot detect the runtime of this client. Without this field it would omit all flags
    that are for servers only, even if their keys are requested."""

    def __repr__(self) -> str:
        """Hide the person and the key."""
        return "FlagsRequest(...)"


class Metadata(msgspec.Struct, frozen=True):
    """Id, version and payload of a flag."""

    id: int | None = None
    version: int | None = None
    payload: Any = None


class Reason(msgspec.Struct, frozen=True):
    """Why a flag has its value."""

    description: str | None = None


class EvaluatedFlag(msgspec.Struct, frozen=True):
    """The evaluation of one flag."""

    enabled: bool
    variant: str | None = None
    failed: bool | None = False
    """Whether PostHog could not evaluate the flag. The other fields are then meaningless."""
    reason: Reason | None = None
    metadata: Metadata = Metadata()

    @property
    def value(self) -> bool | str:
        """The name of the variant if the flag has one, else whether the flag is on."""
        return self.variant if self.enabled and self.variant else self.enabled


class Evaluation(msgspec.Struct, frozen=True):
    """The response to an evaluation request, without flags that cannot be decoded."""

    flags: dict[str, EvaluatedFlag] = {}
    request_id: str | None = None
    unreadable: list[str] = []
    """Keys of flags that could not be decoded."""
    limited: bool = False
    """Whether PostHog evaluated no flags because the project's quota is used up."""


class FlagsApi:
    """Evaluates flags with the public project key."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def evaluate(self, host: str, request: FlagsRequest) -> Evaluation:
        """Evaluate flags for one person.

        Raises:
            PostHogError: PostHog refused, could not be reached, or its response has no flags.
        """
        response = await exchange(
            self._http,
            "POST",
            f"{host}/flags/?v=2",
            headers={"Content-Type": "application/json"},
            content=msgspec.json.encode(request),
            seconds=EVALUATION_SECONDS,
            max_bytes=MAX_RESPONSE_BYTES,
        )
        if not httpx.codes.is_success(response.status):
            raise PostHogError(
                f"PostHog answered {response.status}",
                response.status,
                retry_after=retry_after_seconds(response.retry_after, datetime.now(UTC)),
            )
        return read_evaluation(response.content)


_ABSENT = msgspec.Raw(b"null")
_FLAGS_QUOTA = "feature_flags"


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    """Version 2 of the response body, and the fields of older PostHogs instead of `flags`."""

    flags: msgspec.Raw = _ABSENT
    feature_flags: msgspec.Raw = _ABSENT
    feature_flag_payloads: msgspec.Raw = _ABSENT
    request_id: msgspec.Raw = _ABSENT
    quota_limited: msgspec.Raw = _ABSENT


class _Flag(msgspec.Struct, frozen=True):
    """A flag in the response. Fields besides its value may be malformed."""

    enabled: bool
    variant: str | None = None
    failed: bool | None = None
    reason: msgspec.Raw = _ABSENT
    metadata: msgspec.Raw = _ABSENT


def read_evaluation(content: bytes) -> Evaluation:
    """Decode a response body. A malformed member affects only that member.

    Raises:
        PostHogError: the body has no flags.
    """
    body = _read(repaired_json(content), _Body)
    if body is None:
        raise PostHogError("PostHog did not answer with flags")
    limited = _FLAGS_QUOTA in (_read(body.quota_limited, list[Any]) or [])
    flags = _flags(body)
    if flags is None and not limited:
        raise PostHogError("PostHog did not answer with flags")
    flags = flags or {}
    return Evaluation(
        flags={name: flag for name, flag in flags.items() if flag is not None},
        request_id=_read(body.request_id, str),
        unreadable=[name for name, flag in flags.items() if flag is None],
        limited=limited,
    )


def _flags(body: _Body) -> dict[str, EvaluatedFlag | None] | None:
    """Decode each flag separately: None for a malformed flag. None if the body has no flags."""
    flags = _read(body.flags, dict[str, msgspec.Raw])
    if flags is not None:
        return {name: _flag(content) for name, content in flags.items()}
    values = _read(body.feature_flags, dict[str, msgspec.Raw])
    if values is None:
        return None
    payloads = _read(body.feature_flag_payloads, dict[str, msgspec.Raw]) or {}
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
    """Decode one member of the body; None if it has another type."""
    try:
        return msgspec.json.decode(content, type=shape)
    except NOT_JSON:
        return None
