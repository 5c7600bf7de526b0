"""`POST /v1/flags/evaluate`: evaluates a person's feature flags, for Hogsend's client."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from hogsend.contract.directory import INGEST_LIST_CONTACTS, ListContacts
from hogsend.contract.errors import InvalidRequest
from hogsend.contract.flags import ANALYTICS_FLAGS, GetFlags
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, INGEST_KEY, reporters_only
from services.gateway.error_responses import documented_errors
from services.gateway.routes.record import Email, UserId


class WhoseFlags(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A person, named by `userId` or `email`. If both are given, `userId` names the person."""

    user_id: UserId | None = None
    """Id of the person in your product; PostHog's distinct id."""
    email: Email | None = None
    """Compared without regard to case."""


class EvaluatedFlags(msgspec.Struct, frozen=True, kw_only=True):
    """Values by flag key: a boolean, or the name of a variant."""

    flags: dict[str, bool | str]


@post(
    "/v1/flags/evaluate",
    status_code=200,
    guards=[reporters_only],
    operation_id="evaluateFlags",
    summary="Evaluate feature flags of a person",
    tags=["Events"],
    security=ADMIN_SECURITY + INGEST_KEY,
    responses=documented_errors(400, 401, 403, 413, 429, 503),
)
async def evaluate_flags(
    data: JSONBody[WhoseFlags], bus: NamedDependency[Connection]
) -> EvaluatedFlags:
    """Have PostHog evaluate all feature flags of its project for a person.

    Flags that PostHog evaluates in browsers and apps only ("client-side only") are omitted. The
    result is empty without a project key, and while PostHog does not respond. An email address
    names the person of its contact.
    """
    if data.user_id is None and data.email is None:
        raise InvalidRequest("userId or email is required")
    properties: dict[str, Any] = {} if data.email is None else {"email": data.email}
    distinct_id = data.user_id or await _distinct_id_of(bus, data.email or "")
    query = GetFlags(distinct_id=distinct_id, person_properties=properties)
    return EvaluatedFlags(flags=(await bus.request(ANALYTICS_FLAGS, query)).values)


async def _distinct_id_of(bus: Connection, email: str) -> str:
    """Return the key of the contact with this email address, or else the address itself."""
    page = await bus.request(INGEST_LIST_CONTACTS, ListContacts(email=email, limit=1))
    return page.contacts[0].contact_key if page.contacts else email
